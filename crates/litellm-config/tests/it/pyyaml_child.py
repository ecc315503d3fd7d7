"""Answers what PyYAML's safe loader, the proxy's, reads: a line of JSON in (the text), a line of JSON out."""

import datetime
import json
import sys

import yaml


def told(value):
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, str):
        return {"str": value}
    if isinstance(value, (datetime.date, datetime.datetime)):
        return {"date": True}
    if isinstance(value, list):
        return [told(item) for item in value]
    if isinstance(value, dict):
        return {"map": [[told(key), told(item)] for key, item in value.items()]}
    return {"other": type(value).__name__}


for line in sys.stdin:
    try:
        answer = {"read": told(yaml.safe_load(json.loads(line)))}
    except Exception as error:  # whatever it is, the proxy would not start
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
