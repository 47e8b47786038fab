# A job that is a form: it is run by berth job dispatch, each time as a job of its own.
#
#   berth job run examples/dispatch.hcl
#   echo hello | berth job dispatch -meta input=greeting -payload - convert
#   berth job dispatch -meta input=a -once order-17 convert   # a second time runs nothing
#   berth job status convert
job "convert" {
  type = "batch"

  parameters {
    payload  = "optional" # | required | forbidden; at most 16 KiB
    required = ["input"]  # keys of meta that must be given
    optional = ["speed"]  # keys that may be given
    keep     = 20         # runs that are over, for each of well and badly ended ones
  }

  # What is given over these. Tasks see them as BERTH_META_INPUT and BERTH_META_SPEED.
  meta {
    speed = "low"
  }

  group "convert" {
    task "convert" {
      driver       = "exec"
      payload_file = "local/payload" # where the task finds the payload
      config {
        command = "/bin/sh"
        args    = ["-c", "echo converting $BERTH_META_INPUT at $BERTH_META_SPEED speed; cat local/payload 2>/dev/null || true"]
      }
      resources {
        cpu    = 0.1
        memory = "32MiB"
      }
    }
  }
}
