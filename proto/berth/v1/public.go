package berthv1

import "google.golang.org/protobuf/reflect/protoreflect"

// PublicFiles are the files of the schema with services that anybody may call, over gRPC
// and as REST/JSON.
func PublicFiles() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{File_berth_v1_api_proto, File_berth_v1_reservation_proto, File_berth_v1_scheduler_proto,
		File_berth_v1_deployment_proto, File_berth_v1_discovery_proto, File_berth_v1_variable_proto, File_berth_v1_image_proto}
}
