package api

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// Where a task of driver qemu names images: keys of its config, and of blocks in it.
var (
	imageKeys   = []string{"image", "kernel", "initrd"}
	imageBlocks = []string{"disk", "disks", "cdrom", "cdroms"}
)

// imageRefs calls see with each name of a cluster's image in a task, and sets it to what
// see gives.
func imageRefs(t *berthv1.Task, see func(field, name string) (string, error)) error {
	if t.GetDriver() != "qemu" {
		return nil
	}
	look := func(field string, block *structpb.Struct, keys []string) error {
		for _, key := range keys {
			v, text := block.GetFields()[key].GetKind().(*structpb.Value_StringValue)
			if !text || !isImageName(v.StringValue) {
				continue
			}
			to, err := see(field+"."+key, v.StringValue)
			if err != nil {
				return err
			}
			if to != v.StringValue { // stored jobs are only read
				v.StringValue = to
			}
		}
		return nil
	}
	if err := look("config", t.GetConfig(), imageKeys); err != nil {
		return err
	}
	for _, name := range imageBlocks {
		v := t.GetConfig().GetFields()[name]
		blocks := v.GetListValue().GetValues()
		if v.GetStructValue() != nil {
			blocks = []*structpb.Value{v}
		}
		for i, b := range blocks {
			if err := look(fmt.Sprintf("config.%s[%d]", name, i), b.GetStructValue(), imageKeys[:1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// isImageName tells a name from an address and a path.
func isImageName(text string) bool {
	name, _, _ := strings.Cut(text, "@")
	return imageName.MatchString(name)
}

// resolveImages gives the job with every name of an image as "name@sha256:...", so that all
// instances of a version run by the same bytes, whenever they start. Where neither the
// group nor the task says on which architecture it runs, the images do.
func resolveImages(view *state.View, job *berthv1.Job) (*berthv1.Job, error) {
	names := false
	for _, g := range job.GetGroups() {
		for _, t := range g.GetTasks() {
			_ = imageRefs(t, func(_, name string) (string, error) { names = true; return name, nil })
		}
	}
	if !names {
		return job, nil
	}
	job = proto.CloneOf(job)
	for _, g := range job.GetGroups() {
		arch := ""
		for _, t := range g.GetTasks() {
			at := "job.groups[" + g.GetName() + "].tasks[" + t.GetName() + "]."
			err := imageRefs(t, func(field, name string) (string, error) {
				i, err := findImage(view, name)
				if err != nil {
					p := problem.From(err)
					return "", problem.New(p.Kind, at+field, "%s", p.Reason).WithRemedy("%s", p.Remedy)
				}
				if t.GetConfig().GetFields()["arch"].GetStringValue() == "" && strings.HasSuffix(field, ".image") && i.GetFormat() != "file" {
					if arch != "" && arch != i.GetArch() {
						return "", problem.New(problem.Invalid, at+field, "%q is of %s, and another image of the group is of %s", name, i.GetArch(), arch).
							WithRemedy(`say arch in the task's config, or put them into groups of their own`)
					}
					arch = i.GetArch()
				}
				return i.GetName() + "@" + i.GetDigest(), nil
			})
			if err != nil {
				return nil, err
			}
		}
		constrainArch(job, g, arch)
	}
	return job, nil
}

const archAttribute = "node.arch"

func constrainArch(job *berthv1.Job, g *berthv1.Group, arch string) {
	if arch == "" {
		return
	}
	all := append(append([]*berthv1.Constraint{}, job.GetConstraints()...), g.GetConstraints()...)
	for _, t := range g.GetTasks() {
		all = append(all, t.GetConstraints()...)
	}
	for _, c := range all {
		if c.GetAttribute() == archAttribute {
			return
		}
	}
	g.Constraints = append(g.Constraints, &berthv1.Constraint{Attribute: archAttribute, Operator: "=", Value: arch})
}

// jobsOf are the jobs, as "namespace/name", that are to run and name an image.
func jobsOf(view *state.View, image *berthv1.Image) []string {
	ref := image.GetName() + "@" + image.GetDigest()
	var jobs []string
	for job := range view.JobsFrom("", "") {
		named := false
		for _, g := range job.GetGroups() {
			for _, t := range g.GetTasks() {
				_ = imageRefs(t, func(_, name string) (string, error) { named = named || name == ref; return name, nil })
			}
		}
		if named && !job.GetStopped() {
			jobs = append(jobs, state.JobKey(job.GetNamespace(), job.GetName()))
		}
	}
	return jobs
}
