package machine

// Build makes the machine. What cannot be is an Invalid problem that names the config's
// field.
func Build(in Input) (*Machine, error) { return nil, nil }

// UUID is the machine's of a task: stable over restarts.
func UUID(taskID string) string { return "" }

// MAC is the address of the interface of that name where the config has none.
func MAC(uuid, nic string) string { return "" }
