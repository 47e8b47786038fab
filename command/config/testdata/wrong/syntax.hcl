data_dir = "/srv
server {
