"""The method of the wire contract, as `rpc` calls and serves it."""

from trioder.rpc import Method, method_of
from trioder.wire import agent_link_pb2 as pb

AGENT_LINK_STREAM: Method[pb.AgentToHeadend, pb.HeadendToAgent] = method_of(
    pb.DESCRIPTOR.services_by_name["AgentLink"], "Stream"
)

# The version that this code implements, sent as Register.protocol.
PROTOCOL = 1
