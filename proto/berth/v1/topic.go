package berthv1

// Key is the topic as one word: the same for equal topics, and "" for none.
func (t *Topic) Key() string {
	switch t := t.GetTopic().(type) {
	case *Topic_Service:
		return "service:" + t.Service.GetNamespace() + "/" + t.Service.GetService()
	case *Topic_Address:
		return "address:" + t.Address
	case *Topic_Node:
		return "node:" + t.Node
	case *Topic_Variable:
		return "variable:" + t.Variable.GetNamespace() + "/" + t.Variable.GetVariable()
	}
	return ""
}

// ServiceTopic is about the instances of a service.
func ServiceTopic(namespace, service string) *Topic {
	return &Topic{Topic: &Topic_Service{Service: &ServiceName{Namespace: namespace, Service: service}}}
}

// AddressTopic is about who has an IP address.
func AddressTopic(address string) *Topic { return &Topic{Topic: &Topic_Address{Address: address}} }

// NodeTopic is about a node by its name.
func NodeTopic(name string) *Topic { return &Topic{Topic: &Topic_Node{Node: name}} }

// VariableTopic is about a variable.
func VariableTopic(namespace, name string) *Topic {
	return &Topic{Topic: &Topic_Variable{Variable: &VariableName{Namespace: namespace, Variable: name}}}
}
