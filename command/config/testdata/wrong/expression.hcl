name = hostname()
region = var.region
log_format = "te${"x"}t"
server { gossip_key = "short" }
