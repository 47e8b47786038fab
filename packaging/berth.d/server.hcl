# A server of a cluster of three: copy to /etc/berth.d/server.hcl on each, and change the
# addresses. `berth config validate` checks it; docs/config.md explains every setting.
# berth-server.service runs it. `berth agent` reads it too and passes over what is not its.

# What the other servers, agents and people reach. Until certificates secure it, only in
# a network that you trust; left out, the server answers on loopback only.
bind = "10.0.0.11"

server {
  # The same number on each of the first servers.
  bootstrap_expect = 3

  # Any of the others; this server's own address does no harm.
  join = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
}
