"""Makes what scripts/run --secure needs in the access directory (ACCESS_DIR), and keeps what is good.

A CA, certificates of the headend and of each of the launcher's agents, and a token of each role in tokens/.
Certificates that expire within 30 days are renewed.
"""

import getpass
import ipaddress
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from trioder.access.ca import CA_CERTIFICATE, AccessError
from trioder.access.directory import AccessDirectory
from trioder.access.document import DEFAULT_TRUST_DOMAIN, AccessFileError, read_document
from trioder.access.grants import AgentRequest
from trioder.access.private_files import replace_file
from trioder.access.table import AccessTable, TokenError
from trioder.domain.access import ALL_TENANTS, ROLES, Role
from trioder.process.addresses import parse_address

# The files of the headend's certificate are named after the first.
HOSTS = ("localhost", "127.0.0.1", "::1")


def hosts() -> list[str]:
    """Return by what names and addresses the headend and the console are reached."""
    addresses = [os.environ[name] for name in ("HEADEND_HTTP_ADDR", "HEADEND_GRPC_ADDR")]
    addresses.append(os.environ.get("CONSOLE_HTTP_ADDR", "none"))
    bound = [parse_address(address).host for address in addresses if address != "none"]
    # An entry may have a port, too.
    lists = [os.environ.get(name, "") for name in ("HEADEND_HTTP_HOSTS", "CONSOLE_HTTP_HOSTS")]
    named = [host.strip() for host in ",".join(lists).split(",")]
    named = [host.partition("]")[0][1:] if host[:1] == "[" else host.partition(":")[0] for host in named]
    others = [host for host in (*bound, *named) if host and not is_unspecified(host)]
    return list(dict.fromkeys([*HOSTS, *others]))


def is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def agents() -> list[AgentRequest]:
    """Return the agents that the launcher would start."""
    launcher = [sys.executable, "-m", "trioder.launcher", "--print-shards"]
    listed = subprocess.run(launcher, stdout=subprocess.PIPE, check=True)  # noqa: S603 - our own module
    decoder = msgspec.json.Decoder(AgentRequest)
    return [decoder.decode(line) for line in listed.stdout.splitlines()]


def keep_token(directory: AccessDirectory, role: Role) -> bool:
    """Keep a token of this role in its file, if it can be used; else make one. Return whether it was made."""
    file = directory.folder / "tokens" / role
    name = f"scripts-run-{role}"
    document = read_document(directory.path)
    try:
        AccessTable(document).authenticate(file.read_text().strip(), now_ms=int(time.time() * 1000))
    except (FileNotFoundError, TokenError):
        pass
    else:
        return False
    if any(token.name == name for token in document.tokens):
        directory.revoke_token(name)
    secret = directory.create_token(name, role=role, tenant=ALL_TENANTS)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(file, secret.encode() + b"\n")
    return True


def main() -> int:
    folder = Path(os.environ["ACCESS_DIR"])
    directory = AccessDirectory(folder, user=getpass.getuser())
    if not directory.path.exists():
        directory.initialise(DEFAULT_TRUST_DOMAIN)
        print(f"trioder: made a private CA, {folder / CA_CERTIFICATE}", file=sys.stderr)
    files = [directory.issue_server(hosts(), if_needed=True)]
    files += directory.issue_agents(agents(), if_needed=True)
    issued = sum(file.issued for file in files)
    made = sum(keep_token(directory, role) for role in ROLES)
    print(
        f"trioder: access in {folder}: {issued} certificates issued, {len(files) - issued} kept; "
        f"{made} tokens created, {len(ROLES) - made} kept",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (AccessError, AccessFileError, ValueError) as error:
        sys.exit(f"trioder: {error}")
    except OSError as error:
        sys.exit(f"trioder: {error.filename or ''}: {error.strerror}")
    except subprocess.CalledProcessError as error:
        # The launcher has said why.
        sys.exit(error.returncode)
