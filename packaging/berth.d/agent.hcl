# The agent of a host: copy to /etc/berth.d/agent.hcl, and change the addresses.
# `berth config validate` checks it; docs/config.md explains every setting.
# berth-agent.service runs it.

agent {
  # Any of the servers; the others are learnt from it.
  servers = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]

  pool = "default"
  meta = { rack = "r1" }

  reserved {
    memory = "1GiB"
    disk   = "10GiB"
    ports  = [22]
  }
}
