data_dir  = 3
log_level = "loud"
bind      = "host"
server = { enabled = true }
agent {
  min_port = "20000"
  max_port = 70000
  meta     = { a = 1 }
  servers  = ["ok", 3]
  reserved {
    memory = "2 gigs"
    cpus   = "0-"
    ports  = [22.5]
  }
  meta {
    rack = "r1"
  }
}
ports "x" {
  http = null
}
ports {}
ports {}
tls { ca_file = "relative.pem" }
