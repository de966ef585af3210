"""`genfast doctor`: what this machine has, what stands in the way, and what to do about it."""

import sys
from dataclasses import asdict

import typer

from genfast.cli.options import AsJson
from genfast.cli.output import print_json


def doctor(as_json: AsJson = False) -> None:
    """Examine this machine: versions, devices, cores and folders, with a cure for each fault.

    Ends with 0 where nothing is at fault; a machine without a GPU is not.
    """
    from genfast import doctor

    findings = doctor.examine()
    faults = [finding for finding in findings if finding.fault]
    devices = [f.name for f in findings if f.name.partition(":")[0] in ("cpu", "cuda") and not f.fault]
    if as_json:
        print_json({"works": not faults, "devices": devices, "findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            wanted = f" (wanted: {finding.wanted})" if finding.wanted else ""
            print(f"{finding.name:{width}}  {finding.found or 'none'}{wanted}")
        print(f"genfast can draw on: {', '.join(devices) or 'nothing'}")
    for finding in faults:
        print(f"genfast: {finding.fault}; {finding.cure}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)
