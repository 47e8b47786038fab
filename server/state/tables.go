package state

import (
	"cmp"
	"iter"

	"github.com/tidwall/btree"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// tables is every table and index. A copy shares everything with the original until
// either of them changes it.
type tables struct {
	revision  uint64
	clusterID string

	jobs        *btree.BTreeG[*berthv1.Job] // by namespace, name
	jobVersions *btree.BTreeG[*berthv1.Job] // older versions, by namespace, name, version
	nodes       *tree[*berthv1.Node]
	allocs      allocTable
	evals       *tree[*berthv1.Evaluation]
	evalsByJob  *btree.BTreeG[*berthv1.Evaluation] // by namespace, job, create revision, id
	namespaces  *btree.BTreeG[*berthv1.Namespace]
	config      *berthv1.SchedulerConfig
	gangs       *btree.BTreeG[*berthv1.StagedGang]

	reservations *btree.BTreeG[*berthv1.Reservation]

	deployments      *tree[*berthv1.Deployment]
	deploymentsByJob *btree.BTreeG[*berthv1.Deployment] // by namespace, job, version

	children   *btree.BTreeG[*berthv1.Job] // by namespace, parent, create revision
	dispatched *btree.BTreeG[*berthv1.Job] // children with a token, by namespace, parent, token
	scheduled  *btree.BTreeG[*berthv1.Job] // those with a schedule, by namespace, name
	scaling    *btree.BTreeG[*berthv1.ScalingEvent]
	variables  *btree.BTreeG[*berthv1.Variable]
	images     *btree.BTreeG[*berthv1.Image] // by name, newest first

	services services

	revised *revisions // shared by all copies; see Revised
}

func newTables() tables {
	return tables{
		jobs:        newTree(compareJobs),
		jobVersions: newTree(compareJobVersions),
		nodes:       newIDTree((*berthv1.Node).GetId, nil),
		allocs:      newAllocTable(),
		evals:       newIDTree((*berthv1.Evaluation).GetId, nil),
		evalsByJob:  newTree(compareEvalsByJob),
		namespaces:  newTree(func(a, b *berthv1.Namespace) int { return cmp.Compare(a.GetName(), b.GetName()) }),
		config:      &berthv1.SchedulerConfig{},
		gangs:       newGangs(),
		revised:     newRevisions(),

		reservations: newTree(func(a, b *berthv1.Reservation) int { return cmp.Compare(a.GetName(), b.GetName()) }),

		deployments:      newIDTree((*berthv1.Deployment).GetId, nil),
		deploymentsByJob: newTree(compareDeploymentsByJob),

		services: newServices(),

		children:   newTree(compareChildren),
		dispatched: newTree(compareDispatched),
		scheduled:  newTree(compareJobs),
		scaling:    newTree(compareScalingEvents),
		variables:  newTree(compareVariables),
		images:     newTree(compareImages),
	}
}

func (t *tables) copy() tables {
	c := *t
	c.jobs = t.jobs.Copy()
	c.jobVersions = t.jobVersions.Copy()
	c.nodes = t.nodes.copy()
	c.allocs = t.allocs.copy()
	c.evals = t.evals.copy()
	c.evalsByJob = t.evalsByJob.Copy()
	c.namespaces = t.namespaces.Copy()
	c.reservations = t.reservations.Copy()
	c.gangs = t.gangs.Copy()
	c.deployments = t.deployments.copy()
	c.deploymentsByJob = t.deploymentsByJob.Copy()
	c.services = t.services.copy()
	c.children = t.children.Copy()
	c.dispatched = t.dispatched.Copy()
	c.scheduled = t.scheduled.Copy()
	c.scaling = t.scaling.Copy()
	c.variables = t.variables.Copy()
	c.images = t.images.Copy()
	return c
}

// Revision is the revision of the last change in it.
func (t *tables) Revision() uint64 { return t.revision }

// ClusterID identifies the cluster for life; empty before its first leader.
func (t *tables) ClusterID() string { return t.clusterID }

// newTree makes a tree without locks of its own: the Store's lock guards the live one,
// and copies are only read.
func newTree[T any](compare func(a, b T) int) *btree.BTreeG[T] {
	return btree.NewBTreeGOptions(func(a, b T) bool { return compare(a, b) < 0 }, btree.Options{NoLocks: true})
}

// get finds the item equal to key.
func get[T any](tree *btree.BTreeG[T], key T) T {
	item, _ := tree.Get(key)
	return item
}

// from iterates in order, starting at the first item not below pivot, while within.
func from[T any](tree *btree.BTreeG[T], pivot T, within func(T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		tree.Ascend(pivot, func(item T) bool {
			return (within == nil || within(item)) && yield(item)
		})
	}
}
