package jobspec

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// readFile reads a file that a spec names, relative to Dir.
func (o *Options) readFile(name string) ([]byte, error) {
	if o.Dir == "" {
		return nil, fmt.Errorf("files cannot be read where this spec is parsed; send the job with the berth command, which reads them on your side")
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(o.Dir, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSource+1))
	if err == nil && len(data) > MaxSource {
		err = fmt.Errorf("%s is larger than 1 MiB", name)
	}
	return data, err
}

func fileFunc(read func(string) ([]byte, error), make func([]byte) (string, error)) function.Function {
	return textFunc(func(name string) (string, error) {
		data, err := read(name)
		if err != nil {
			return "", err
		}
		return make(data)
	})
}

func (r *hclReader) fileExists() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if r.opts.Dir == "" {
				_, err := r.opts.readFile("")
				return cty.False, err
			}
			name := args[0].AsString()
			if !filepath.IsAbs(name) {
				name = filepath.Join(r.opts.Dir, name)
			}
			info, err := os.Stat(name)
			return cty.BoolVal(err == nil && info.Mode().IsRegular()), nil
		},
	})
}

// templateFile renders a file as an HCL template, with the given variables and all
// functions but itself.
func (r *hclReader) templateFile() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "vars", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			data, err := r.opts.readFile(name)
			if err != nil {
				return cty.StringVal(""), err
			}
			vars := args[1]
			if t := vars.Type(); !t.IsObjectType() && !t.IsMapType() {
				return cty.StringVal(""), function.NewArgErrorf(1, "wants an object of variables")
			}
			s, err := r.render(string(data), name, vars)
			return cty.StringVal(s), err
		},
	})
}

func (r *hclReader) render(text, name string, vars cty.Value) (string, error) {
	found := &findings{}
	if !boundHCL([]byte("x = <<E\n"+text+"\nE\n"), name, found) {
		return "", fmt.Errorf("%s: %s", name, found.list[0].summary)
	}
	e, diags := hclsyntax.ParseTemplate([]byte(text), name, hcl.InitialPos)
	if diags.HasErrors() {
		return "", diags
	}
	ctx := &hcl.EvalContext{Variables: vars.AsValueMap(), Functions: map[string]function.Function{}}
	for fn, f := range r.ctx.Functions {
		if fn != "templatefile" {
			ctx.Functions[fn] = f
		}
	}
	rw := &rewriter{found: found, meter: r.meter}
	var bound []string
	for v := range ctx.Variables {
		bound = append(bound, v)
	}
	e = rw.part(e, bound)
	if rw.failed {
		x := found.list[0]
		return "", fmt.Errorf("%s:%d:%d: %s", name, x.pos.Line, x.pos.Col, x.summary)
	}
	v, diags := e.Value(ctx)
	if diags.HasErrors() {
		return "", diags
	}
	v, err := convert.Convert(v, cty.String)
	if err != nil || v.IsNull() || !v.IsKnown() {
		return "", fmt.Errorf("%s does not make a string", name)
	}
	return v.AsString(), nil
}
