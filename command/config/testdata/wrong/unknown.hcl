data_dri = "/srv"
server {
  bootstrap_expct = 3
}
agnet {
  pool = "x"
}
zzz = 1
