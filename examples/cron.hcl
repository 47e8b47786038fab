# A job that is run by the clock. It runs nothing itself: each time a job of its own is
# registered, named after this one and the time in UTC, such as report.20261102-030000.
#
#   berth job run examples/cron.hcl
#   berth job status report             # its next time, and its runs
#   berth job periodic force report     # run it now
#   berth job stop report               # no more of it; -children stops what runs as well
job "report" {
  type = "batch"

  schedule {
    # Five fields: minute, hour, day, month, weekday. With six, the first is seconds.
    # "@every 90s" counts from 1970, so that the times are the same whoever leads.
    cron      = ["0 3 * * 1-5", "*/30 * * * * *"]
    time_zone = "Europe/Berlin"

    overlap  = "skip" # the run before is not over: allow | skip | replace
    catch_up = "one"  # times missed while there was no server: none | one | all
    keep     = 5      # runs that are over, for each of well and badly ended ones
  }

  group "report" {
    task "write" {
      driver = "exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo the report of $(date); sleep 2"]
      }
      resources {
        cpu    = 0.1
        memory = "32MiB"
      }
    }
  }
}
