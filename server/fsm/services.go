package fsm

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// offers stores what an agent says that an allocation offers: services of its group, each
// once. What its job does not name is nobody's service.
func (a *applier) offers(alloc string, reported []*berthv1.ServiceInstance) {
	row := a.AllocRow(alloc)
	if !row.Exists() {
		return
	}
	may := map[string]bool{}
	for _, g := range a.JobVersion(row.Namespace(), row.Job(), row.JobVersion()).GetGroups() {
		if g.GetName() == row.Group() {
			for _, s := range g.GetServices() {
				may[s.GetName()] = true
			}
		}
	}
	var offered []*berthv1.ServiceInstance
	for _, i := range reported {
		if may[i.GetService()] {
			may[i.GetService()] = false
			offered = append(offered, i)
		}
	}
	a.SetServices(alloc, offered)
}
