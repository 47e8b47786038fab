# Everything that a job spec can say. What is commented out shows the default, or what
# one might write. The reference is docs/job-spec.md.
#
# Check it with: berth job validate FILE    Run it with: berth job run -var greeting=hello FILE

# Values from outside: -var NAME=VALUE, -var-file FILE, or BERTH_VAR_NAME in the environment.
variable "greeting" {
  type        = string
  default     = "hello"
  description = "what the service says"

  validation {
    condition     = length(var.greeting) > 0
    error_message = "a service has to say something"
  }
}

# Values that are used in several places; functions and other locals may be used.
locals {
  page = "<p>${upper(var.greeting)} from ${node.name}</p>" # ${node...} is filled in on the node
}

job "example" {
  # namespace = "default"
  # node_pool = "default"     # "all": every pool
  type     = "service" # service | batch | system | sysbatch
  priority = 50        # 1 to 100; who goes first
  arch     = ["amd64", "arm64"]
  # gang        = true        # all instances of all groups are placed, or none
  # strategy    = "binpack"   # or "spread"; as the cluster is configured without it
  # preempt     = true        # may take the place of what has a lower priority
  # reservation = "training"  # runs on the nodes that are reserved under this name
  # scheduler   = "mine"      # an external scheduler places it

  # How a new version replaces the old one, for groups that do not say it themselves.
  # With it each version gets a deployment: berth deployment list.
  update {
    max_parallel      = "25%"    # so many at a time; or a number
    stagger           = "0s"     # between one set and the next
    min_healthy_time  = "10s"    # healthy for so long
    healthy_deadline  = "5m"     # not healthy by then: unhealthy
    progress_deadline = "10m"    # none healthy for so long: the roll-out fails
    health            = "checks" # checks | tasks | manual
    canary            = "1"      # beside the old ones, without traffic; "100%" is blue-green
    promote           = "manual" # by berth deployment promote, or "healthy"
    promote_after     = "0s"     # with "healthy": healthy for so long
    auto_revert       = true     # back to the last good version when it fails
  }

  # Run it by the clock, each time as a job of its own.
  # schedule {
  #   cron      = ["0 3 * * *", "@every 90s"] # with six fields, the first is seconds
  #   time_zone = "Europe/Berlin"
  #   overlap   = "skip"  # allow | skip | replace, while the run before is not over
  #   catch_up  = "one"   # none | one | all of the times missed without servers
  #   keep      = 10      # runs that are over
  #   paused    = false
  # }

  # Or a form, filled in by berth job dispatch.
  # parameters {
  #   payload  = "optional" # | required | forbidden
  #   required = ["input"]  # keys of meta
  #   optional = ["speed"]
  #   keep     = 100
  # }

  # Shares of the architectures: three quarters on x86, the rest on ARM.
  arch_weight "amd64" { weight = 3 }
  arch_weight "arm64" { weight = 1 }

  # Taints that its nodes may have; groups may have more.
  toleration {
    key      = "dedicated"
    operator = "=" # or "exists"
    value    = "web"
  }

  # Words for the tasks, as BERTH_META_<KEY>. Groups and tasks may have them too.
  meta {
    owner = "team-web"
  }

  # What every node must satisfy: = != > >= < <= matches contains any_of is_set not_set
  # version distinct_hosts distinct_property.
  constraint {
    attribute = "kernel.name"
    operator  = "="
    value     = "linux"
  }

  # What a node should satisfy; a negative weight pushes away.
  affinity {
    attribute = "node.class"
    # operator = "="
    value  = "fast"
    weight = 50
  }

  # Put the instances into different values of an attribute; targets are optional.
  spread {
    attribute = "node.rack"
    weight    = 50
    target "r1" { percent = 60 }
    target "r2" { percent = 40 }
  }

  # A group is placed on one node, together.
  group "web" {
    count = 2     # not for system and sysbatch jobs
    gang  = false # all instances are placed, or none

    disk = "300MiB" # for the group's directory

    whole_node = false # nothing else runs on its nodes

    # What preemption, drains and rebalancing may take away at a time.
    disruption {
      max_unavailable = "50%" # or a number
    }

    # Bounds of the count, for berth job scale.
    scaling {
      min = 1
      max = 10
    }

    # An identity for each instance: there are never two of one index.
    # stateful {
    #   order       = "ordered" # or "parallel"
    #   sticky_disk = true      # alloc/data goes with the index
    # }

    # It leaves discovery, and goes on for so long before its tasks are stopped.
    shutdown_delay = "2s"

    # What others find: web.default.berth in DNS, and in templates.
    service "web" {
      port = "http"
      tags = ["frontend"]
      # canary_tags = ["canary"]
      meta {
        team = "web"
      }
      check "http" {
        type     = "http" # http | tcp | grpc | script; by default the name
        path     = "/healthz"
        on       = "readiness" # traffic and roll-outs | liveness: restarts | both
        interval = "10s"
        timeout  = "3s"
        # port              = "admin"
        # start_period      = "0s"   # failures do not count so long
        # success_threshold = 1      # in a row
        # failure_threshold = 3
        # method            = "GET"
        # body              = "..."
        # expect_status     = "200-399"
        # tls               = true   # also of grpc
        # tls_skip_verify   = true
        # grpc_service      = "shop.Cart"
        # command           = ["/bin/check", "-v"] # script: inside a task
        # task              = "server"
        # headers {
        #   Accept = "text/plain"
        # }
      }
    }

    # How cores, memory and devices must lie in the node's NUMA cells.
    topology {
      policy = "none" # none | best-effort | restricted | single
      align  = ["cpu", "memory"]
      # cells = 2              # evenly over exactly two cells
    }

    # A task that ends is started again on its node...
    restart {
      attempts  = 3
      interval  = "10m"
      delay     = "1s" # doubles each time
      max_delay = "1m"
      mode      = "fail" # fail: give it up; delay: wait for the interval to end
    }

    # ...and what is given up is placed elsewhere.
    reschedule {
      # attempts = 3           # or unlimited, as services are by default
      unlimited = true
      interval  = "24h"
      delay     = "5s"
      max_delay = "1h"
      backoff   = "exponential" # constant | exponential | fibonacci
    }

    # When the node is out of touch.
    on_disconnect {
      lost_after = "0s" # replaced so long after the node is down
      stop_after = "0s" # the agent stops it itself; 0: never
      replace    = true
      reconcile  = "keep_new" # keep_new | keep_old | best
    }

    network {
      mode = "host"
      port "http" {}
      # port "admin" { static = 9000 }
      # to = 8080              # of a port: inside the group's own network
    }

    task "server" {
      driver = "exec"
      # user        = "nobody"
      # kill_signal = "SIGTERM"
      kill_timeout = "5s"
      # leader         = true # when it ends, the others are stopped
      # shutdown_delay = "1s"
      # payload_file   = "local/payload" # of a dispatched job

      # When it runs, if not for the whole life of the group.
      # lifecycle {
      #   hook    = "prestart" # | poststart | poststop
      #   sidecar = true       # beside the main tasks until they have ended
      # }

      # Fetched before it starts.
      # artifact {
      #   source      = "https://example.com/site.tar.gz" # http, https, file, git::...
      #   destination = "local"
      #   mode        = "any" # | file | dir
      #   checksum    = "sha256:..."
      #   max_size    = "1GiB" # unpacked
      #   timeout     = "30m"
      #   headers { Authorization = "Bearer ..." }
      #   options { depth = "1" }
      # }

      # Rendered before it starts, and again when what it reads has changed.
      template {
        data          = "{{ range service \"db\" }}server {{ .Address }}:{{ .Port }}\n{{ end }}"
        destination   = "local/backends"
        change_mode   = "signal" # restart | signal | script | none
        change_signal = "SIGHUP"
        # source          = "local/backends.tmpl" # in place of data
        # change_script   = ["/bin/reload"]
        # env             = true # its lines KEY=value become environment variables
        # perms           = "0644"
        # splay           = "5s"
        # left_delimiter  = "{{"
        # right_delimiter = "}}"
        # fail_on_missing = true # fail, instead of waiting for what is missing
      }

      config {
        command = "/bin/sh"
        args = [
          "-c",
          "echo \"$PAGE\" > index.html; while true; do cat index.html; sleep 60; done",
        ]
      }

      env {
        PAGE = local.page
      }

      resources {
        cpu    = "200m" # shared; "500m" is half a core, 2 is two
        memory = "128MiB"
        # memory_max = "256MiB"  # when the node has it to spare
        # cores      = 4         # exclusive, pinned; instead of cpu
        # core_unit  = "core"    # or "thread"
        pids = 4096
        # io_weight  = 100       # 1 to 10000
        # hugepages "2MiB" { count = 64 }
        # device "gpu" {
        #   count   = 1
        #   model   = "NVIDIA H100*"
        #   memory  = "40GiB"
        #   profile = "1g.10gb"
        #   share   = 0.5
        #   link    = "nvlink"
        #   network = "storage"  # of a virtual function
        #   rdma    = true
        #   near    = "gpu"      # of a virtual function: beside one of the task's GPUs,
        #   within  = "pcie"     # under the same root (or on the same cell or socket)
        # }
      }

      logs {
        max_files     = 5
        max_file_size = "10MiB"
      }
    }
  }
}
