# A job that is placed by the scheduler in scheduler.py, not by Berth itself.
job "hello-example" {
  scheduler = "example"
  group "sleep" {
    count = 3
    task "sleep" {
      driver = "exec"
      config {
        command = "/bin/sleep"
        args    = ["3600"]
      }
      resources {
        cpu    = "50m"
        memory = "16MiB"
      }
    }
  }
}
