package api

import (
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// method is what the interceptors and the HTTP side need to know of a method. All of it
// comes from the schema, but for local.
type method struct {
	name  string // "/berth.v1.JobService/ListJobs"
	short string // "JobService/ListJobs"
	in    protoreflect.MessageType
	out   protoreflect.MessageType
	desc  protoreflect.MethodDescriptor
	local bool // the asked server carries it out; otherwise the leader, unless the request says stale

	// Over HTTP; empty where the route is made by hand.
	verb string
	path string // "/v1/jobs/{job}"
	body string // "", "*" or the field that is the body
}

// askedServer is every method that the asked server carries out itself: it is about that
// server, or needs no state, or finds its own way to an agent.
var askedServer = map[string]bool{
	"JobService/ParseJob":              true,
	"JobService/ValidateJob":           true,
	"AllocService/RestartAlloc":        true,
	"AllocService/SignalAlloc":         true,
	"AllocService/Logs":                true,
	"AllocService/Exec":                true,
	"AllocService/Attach":              true,
	"AllocService/ControlAlloc":        true,
	"AllocService/ScreenshotAlloc":     true,
	"AllocService/SnapshotAlloc":       true,
	"AllocService/ListAllocSnapshots":  true,
	"AllocService/RevertAlloc":         true,
	"AllocService/DeleteAllocSnapshot": true,
	"AllocService/ListFiles":           true,
	"AllocService/StatFile":            true,
	"AllocService/ReadFile":            true,
	"StatusService/GetMembers":         true,
	"StatusService/JoinServers":        true,
	"StatusService/LeaveServer":        true,
	"StatusService/GetHealth":          true,
	"StatusService/GetVersion":         true,
	"StatusService/StreamEvents":       true,
	"SchedulerService/StreamChanges":   true,
}

// methods is every method of the public services by its full name.
var methods = publicMethods()

func publicMethods() map[string]*method {
	all := map[string]*method{}
	for _, file := range berthv1.PublicFiles() {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := newMethod(service, service.Methods().Get(j))
				all[m.name] = m
			}
		}
	}
	return all
}

func newMethod(service protoreflect.ServiceDescriptor, desc protoreflect.MethodDescriptor) *method {
	short := fmt.Sprintf("%s/%s", service.Name(), desc.Name())
	m := &method{
		name:  fmt.Sprintf("/%s/%s", service.FullName(), desc.Name()),
		short: short,
		in:    messageType(desc.Input()),
		out:   messageType(desc.Output()),
		desc:  desc,
		local: askedServer[short],
	}
	rule, _ := proto.GetExtension(desc.Options(), annotations.E_Http).(*annotations.HttpRule)
	m.body = rule.GetBody()
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		m.verb, m.path = http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		m.verb, m.path = http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		m.verb, m.path = http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		m.verb, m.path = http.MethodDelete, p.Delete
	}
	return m
}

// messageType finds the Go type; that of a compiled-in schema is always registered.
func messageType(desc protoreflect.MessageDescriptor) protoreflect.MessageType {
	t, err := protoregistry.GlobalTypes.FindMessageByName(desc.FullName())
	if err != nil {
		panic(fmt.Sprintf("message %s is not registered: %v", desc.FullName(), err))
	}
	return t
}

// idempotent is every method that changes something, and twice no more than once.
var idempotent = map[string]bool{
	"JobService/RegisterJob":             true, // the second finds its spec stored
	"JobService/PlanJob":                 true,
	"JobService/StopJob":                 true,
	"JobService/ScaleJob":                true,
	"JobService/EvaluateJob":             true,
	"NodeService/SetNodeEligibility":     true,
	"NodeService/SetNodeTaints":          true,
	"NodeService/DrainNode":              true, // the second only counts its deadline anew
	"NamespaceService/SetNamespace":      true,
	"VariableService/SetVariable":        true,
	"OperatorService/SetSchedulerConfig": true,
}

// repeatable says whether a call of which nobody knows what became of it may be made
// again. With check-and-set it may not: the second would find what the first has written.
func (m *method) repeatable(req any) bool {
	if r, ok := req.(interface{ GetCheck() bool }); ok && r.GetCheck() {
		return false
	}
	if d, ok := req.(*berthv1.DispatchJobRequest); ok {
		return d.GetToken() != ""
	}
	return m.verb == http.MethodGet || idempotent[m.short]
}

// route is the path as the gateway's patterns print it: {job} is {job=*}.
func (m *method) route() string {
	return m.verb + " " + strings.ReplaceAll(m.path, "}", "=*}")
}

// isStale says whether a request leaves it to any server to answer.
func isStale(req any) bool {
	r, ok := req.(interface{ GetStale() bool })
	return ok && r.GetStale()
}

// isConsistent says whether the leader must make sure that it leads before it answers.
func isConsistent(req any) bool {
	r, ok := req.(interface{ GetConsistent() bool })
	return ok && r.GetConsistent()
}
