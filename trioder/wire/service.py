"""The one method of the wire contract, as the transport calls and serves it."""

from trioder.rpc import Method, method_of
from trioder.wire import agent_link_pb2 as pb

AGENT_LINK_STREAM: Method[pb.AgentToHeadend, pb.HeadendToAgent] = method_of(
    pb.DESCRIPTOR.services_by_name["AgentLink"], "Stream"
)

# What this code speaks; Register.protocol carries it.
PROTOCOL = 1
