# A batch job: runs to completion, and is tried again where it fails.
#
#   berth job run examples/batch.hcl
#   berth alloc logs ALLOC
#
job "primes" {
  type = "batch"

  group "count" {
    count = 2

    task "sieve" {
      driver = "exec"

      config {
        command = "/bin/sh"
        args = ["-c", <<-SH
          n=2
          while [ $n -lt 60 ]; do
            d=2
            while [ $((d * d)) -le $n ] && [ $((n % d)) -ne 0 ]; do d=$((d + 1)); done
            [ $((d * d)) -gt $n ] && echo "instance $BERTH_ALLOC_INDEX: $n"
            n=$((n + 1))
          done
        SH
        ]
      }

      resources {
        cpu    = "200m"
        memory = "32MiB"
      }
    }
  }
}
