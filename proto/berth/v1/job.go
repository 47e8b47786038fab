package berthv1

// IsParent says that the job runs nothing itself: it has a schedule or parameters, and what
// is run from it are jobs of their own, its children.
func (x *Job) IsParent() bool { return x.GetSchedule() != nil || x.GetParameters() != nil }
