# What `helm test` runs: each address must answer with 200, within a minute of patience for what has only just started.
import sys
import time
import urllib.error
import urllib.request


def ask(address):
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, answer.read(2000).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(2000).decode("utf-8", "replace")
    except OSError as error:
        return 0, str(error)


failed = False
for address in sys.argv[1:]:
    end = time.monotonic() + 60
    status, text = ask(address)
    while status != 200 and time.monotonic() < end:
        time.sleep(2)
        status, text = ask(address)
    print(address, status or "no answer", text.strip(), flush=True)
    failed |= status != 200
sys.exit(failed)
