# Instances with an identity: three of them, 0, 1 and 2, each with a directory of its own.
#
#   berth job run examples/stateful.hcl
#
# Each counts how often it was started, in alloc/data, which stays with its index:
#
#   berth alloc logs ALLOC
#
# They start one after the other, and are updated and moved from the last to the first. There
# are never two of one index. Try: berth node drain NODE, berth job scale ledger 2.
job "ledger" {
  group "member" {
    count = 3

    stateful {
      order       = "ordered" # 0 first, each when the one before runs; "parallel": all at once
      sticky_disk = true      # alloc/data goes with the index, to another node too
    }

    # When its node loses touch, its agent stops it after a minute. The servers place the
    # successor when that is over; without stop_after they wait for the node to come back.
    on_disconnect {
      stop_after = "1m"
    }

    # A drain moves one at a time.
    disruption {
      max_unavailable = "1"
    }

    task "member" {
      driver       = "exec"
      kill_timeout = "5s"

      config {
        command = "/bin/sh"
        args = ["-c", <<-END
          cd "$BERTH_ALLOC_DIR/data"
          echo "member $BERTH_ALLOC_INDEX starts on $(hostname)" >> starts
          echo "start number $(wc -l < starts) of member $BERTH_ALLOC_INDEX"
          trap 'exit 0' TERM
          while :; do sleep 1; done
        END
        ]
      }

      resources {
        cpu    = "50m"
        memory = "32MiB"
      }
    }
  }
}
