# The life of a group: tasks before, beside and after the main one. Each writes a line into
# a diary that they share; the last one reads it out.
#
#   berth job run examples/lifecycle.hcl
#   berth alloc logs ALLOC clean
#
job "lifecycle" {
  type = "batch"

  group "life" {
    # Before: the main task waits until it has ended well.
    task "prepare" {
      driver = "exec"
      lifecycle { hook = "prestart" }

      config {
        command = "/bin/sh"
        args    = ["-c", "echo 'prepare: makes the input' >> $BERTH_ALLOC_DIR/diary; echo 3 > $BERTH_ALLOC_DIR/input"]
      }
    }

    # Beside: it has started before the main task does, and is stopped when that has ended.
    task "proxy" {
      driver = "exec"
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }

      config {
        command = "/bin/sh"
        args = ["-c", <<-SCRIPT
          trap 'echo "proxy: told to end" >> $BERTH_ALLOC_DIR/diary; exit 0' TERM
          echo "proxy: runs beside the others" >> $BERTH_ALLOC_DIR/diary
          while :; do sleep 0.1; done
        SCRIPT
        ]
      }
    }

    # The main task: with its end the group's work is done.
    task "work" {
      driver = "exec"
      leader = true # it is the only one, so this says nothing new here

      config {
        command = "/bin/sh"
        args = ["-c", <<-SCRIPT
          echo "work: begins" >> $BERTH_ALLOC_DIR/diary
          sleep $(cat $BERTH_ALLOC_DIR/input)
          echo "work: is done" >> $BERTH_ALLOC_DIR/diary
        SCRIPT
        ]
      }
    }

    # After the start: once the main task runs.
    task "announce" {
      driver = "exec"
      lifecycle { hook = "poststart" }

      config {
        command = "/bin/sh"
        args    = ["-c", "sleep 1; echo 'announce: the work has begun' >> $BERTH_ALLOC_DIR/diary"]
      }
    }

    # After the end: also when the group was stopped, or failed.
    task "clean" {
      driver = "exec"
      lifecycle { hook = "poststop" }

      config {
        command = "/bin/sh"
        args    = ["-c", "cat $BERTH_ALLOC_DIR/diary; rm $BERTH_ALLOC_DIR/input"]
      }
    }
  }
}
