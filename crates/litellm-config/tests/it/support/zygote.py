"""Real LiteLLM proxies, one process each, without importing LiteLLM each time.

Importing takes ten seconds and more. This process imports once and forks: each child calls the entry point of the
command `litellm` with the arguments that it is told. A line of JSON in, a line of JSON out.
"""

import ctypes
import json
import os
import signal
import sys
import traceback

PR_SET_PDEATHSIG = 1


def child(order):
    os.environ.update(order["env"])
    for package in order["hidden"]:
        sys.modules[package] = None
    os.chdir(order["directory"])
    log = os.open("proxy.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.setsid()
    # Whatever happens to the test, no proxy outlives this process.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sys.argv = ["litellm", *order["args"]]
    code = 0
    try:
        run_server(order["args"])
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def reaped(pid, flags):
    done, status = os.waitpid(pid, flags)
    return os.waitstatus_to_exitcode(status) if done else None


def answer(order):
    if order["do"] == "start":
        pid = os.fork()
        if pid == 0:
            child(order)
        return {"pid": pid}
    if order["do"] == "poll":
        return {"code": reaped(order["pid"], os.WNOHANG)}
    # Its workers are of its process group.
    os.killpg(order["pid"], signal.SIGKILL)
    return {"code": reaped(order["pid"], 0)}


# Workers of a proxy import this file too, under another name.
if __name__ == "__main__":
    # Read when LiteLLM is imported, or before it is told a configuration.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

    import litellm.proxy.proxy_server  # noqa: F401
    from litellm.proxy.proxy_cli import run_server

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
