# A virtual machine, from an image, with a disk of its own beside it and a user that
# cloud-init makes.
#
#   berth job run -var ssh_key="$(cat ~/.ssh/id_ed25519.pub)" examples/vm.hcl
#   berth alloc console <alloc>      # Ctrl-] leaves
#   ssh -p <port> admin@<node>       # the port is in: berth alloc status <alloc>
#
# Without KVM it is emulated, and slow: a guest of a few MB boots in seconds all the same.
#
#   go run ./hack/guest /tmp/tiny.img
#   berth agent -dev                 # takes images from any path
#   berth job run -var image=/tmp/tiny.img examples/vm.hcl
#
variable "image" {
  type        = string
  default     = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
  description = "What the root disk holds at first: an address, a path, or an image's name."
}

variable "ssh_key" {
  type        = string
  default     = ""
  description = "The public key with which admin logs in."
}

job "vm" {
  group "vm" {
    network {
      port "ssh" {
        to = 22 # in the guest
      }
    }

    # A guest may need a while to shut down by its power button.
    task "debian" {
      driver       = "qemu"
      kill_timeout = "20s"

      config {
        image = var.image

        # The image's disk, larger than it came; a second one, empty at first.
        disk "root" {
          size = "4GiB"
        }
        disk "data" {
          size = "1GiB"
          iops = 2000
        }

        cloud_init {
          user "admin" {
            ssh_keys = compact([var.ssh_key])
            sudo     = true
          }
          user_data = <<-EOT
            #cloud-config
            package_update: false
          EOT
        }
      }

      # Half a CPU is one vCPU that shares; cores = 2 would be two, pinned. The guest
      # sees this memory; what QEMU needs beside it is reserved too.
      resources {
        cpu    = "500m"
        memory = "256MiB"
      }
    }
  }
}
