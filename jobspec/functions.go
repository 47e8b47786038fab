package jobspec

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// library is what expressions may call that reads nothing but its arguments. cost, where
// there is one, is what a call makes beyond the size of its arguments; the meter is
// charged for it before the call.
var library = map[string]struct {
	fn   function.Function
	cost func(args []cty.Value) int
}{
	"abs":             {stdlib.AbsoluteFunc, nil},
	"base64decode":    {base64Decode, nil},
	"base64encode":    {base64Encode, nil},
	"ceil":            {stdlib.CeilFunc, nil},
	"chomp":           {stdlib.ChompFunc, nil},
	"chunklist":       {stdlib.ChunklistFunc, nil},
	"coalesce":        {stdlib.CoalesceFunc, nil},
	"coalescelist":    {stdlib.CoalesceListFunc, nil},
	"compact":         {stdlib.CompactFunc, nil},
	"concat":          {stdlib.ConcatFunc, nil},
	"contains":        {stdlib.ContainsFunc, nil},
	"csvdecode":       {stdlib.CSVDecodeFunc, nil},
	"distinct":        {stdlib.DistinctFunc, squareCost},
	"element":         {stdlib.ElementFunc, nil},
	"flatten":         {stdlib.FlattenFunc, nil},
	"floor":           {stdlib.FloorFunc, nil},
	"format":          {stdlib.FormatFunc, formatCost},
	"formatdate":      {stdlib.FormatDateFunc, nil},
	"formatlist":      {stdlib.FormatListFunc, formatCost},
	"indent":          {stdlib.IndentFunc, indentCost},
	"index":           {stdlib.IndexFunc, nil},
	"int":             {stdlib.IntFunc, nil},
	"join":            {stdlib.JoinFunc, joinCost},
	"jsondecode":      {stdlib.JSONDecodeFunc, nil},
	"jsonencode":      {stdlib.JSONEncodeFunc, nil},
	"keys":            {stdlib.KeysFunc, nil},
	"length":          {length, nil},
	"log":             {stdlib.LogFunc, nil},
	"lookup":          {stdlib.LookupFunc, nil},
	"lower":           {stdlib.LowerFunc, nil},
	"max":             {stdlib.MaxFunc, nil},
	"merge":           {stdlib.MergeFunc, nil},
	"min":             {stdlib.MinFunc, nil},
	"parseint":        {stdlib.ParseIntFunc, nil},
	"pow":             {stdlib.PowFunc, nil},
	"range":           {stdlib.RangeFunc, nil},
	"regex":           {stdlib.RegexFunc, regexCost},
	"regex_replace":   {stdlib.RegexReplaceFunc, replaceCost},
	"regexall":        {stdlib.RegexAllFunc, regexCost},
	"replace":         {stdlib.ReplaceFunc, replaceCost},
	"reverse":         {stdlib.ReverseListFunc, nil},
	"setintersection": {stdlib.SetIntersectionFunc, nil},
	"setproduct":      {stdlib.SetProductFunc, productCost},
	"setsubtract":     {stdlib.SetSubtractFunc, nil},
	"setunion":        {stdlib.SetUnionFunc, nil},
	"signum":          {stdlib.SignumFunc, nil},
	"slice":           {stdlib.SliceFunc, nil},
	"sort":            {stdlib.SortFunc, nil},
	"split":           {stdlib.SplitFunc, nil},
	"strlen":          {stdlib.StrlenFunc, nil},
	"strrev":          {stdlib.ReverseFunc, nil},
	"substr":          {stdlib.SubstrFunc, nil},
	"timeadd":         {stdlib.TimeAddFunc, nil},
	"title":           {stdlib.TitleFunc, nil},
	"tobool":          {makeTo(cty.Bool), nil},
	"tolist":          {makeTo(cty.List(cty.DynamicPseudoType)), nil},
	"tomap":           {makeTo(cty.Map(cty.DynamicPseudoType)), nil},
	"tonumber":        {makeTo(cty.Number), nil},
	"toset":           {makeTo(cty.Set(cty.DynamicPseudoType)), nil},
	"tostring":        {makeTo(cty.String), nil},
	"trim":            {stdlib.TrimFunc, nil},
	"trimprefix":      {stdlib.TrimPrefixFunc, nil},
	"trimspace":       {stdlib.TrimSpaceFunc, nil},
	"trimsuffix":      {stdlib.TrimSuffixFunc, nil},
	"upper":           {stdlib.UpperFunc, nil},
	"values":          {stdlib.ValuesFunc, nil},
	"zipmap":          {stdlib.ZipmapFunc, nil},
}

// fileFunctions read files; a server refuses them.
var fileFunctions = []string{"file", "filebase64", "fileexists", "templatefile"}

// Functions are the names of what a spec may call, in order.
func Functions() []string {
	names := append(sortedKeys(library), fileFunctions...)
	names = append(names, "can", "try")
	slices.Sort(names)
	return names
}

// functions is what a spec may call.
func (r *hclReader) functions() map[string]function.Function {
	out := map[string]function.Function{"try": tryfunc.TryFunc, "can": tryfunc.CanFunc}
	for name, f := range library {
		out[name] = r.meter.guard(f.fn, f.cost)
	}
	read := r.opts.readFile
	out["file"] = fileFunc(read, func(data []byte) (string, error) {
		if !utf8.Valid(data) {
			return "", fmt.Errorf("the file is not UTF-8 text; filebase64 reads any file")
		}
		return string(data), nil
	})
	out["filebase64"] = fileFunc(read, func(data []byte) (string, error) {
		return base64.StdEncoding.EncodeToString(data), nil
	})
	out["fileexists"] = r.fileExists()
	out["templatefile"] = r.templateFile()
	return out
}

// guard charges the meter for what a call is going to make.
func (m *meter) guard(f function.Function, cost func([]cty.Value) int) function.Function {
	return function.New(&function.Spec{
		Description: f.Description(),
		Params:      f.Params(),
		VarParam:    f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			for _, arg := range args {
				if !arg.IsWhollyKnown() || arg.ContainsMarked() {
					return cty.DynamicPseudoType, nil
				}
				if m.charge(arg); m.large {
					return cty.DynamicPseudoType, fmt.Errorf("a number has too many digits")
				}
			}
			if cost != nil && m.left >= 0 {
				m.left -= min(max(cost(args), 0), MaxWork+1)
			}
			if m.left < 0 {
				return cty.DynamicPseudoType, fmt.Errorf("the result would be too large")
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

func makeTo(want cty.Type) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "v", Type: cty.DynamicPseudoType, AllowNull: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			v, err := convert.Convert(args[0], want)
			return v.Type(), err
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return convert.Convert(args[0], want) },
	})
}

// length counts the elements of a collection, or the characters of a string.
var length = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if args[0].Type() == cty.String {
			return stdlib.Strlen(args[0])
		}
		return stdlib.Length(args[0])
	},
})

var base64Encode = textFunc(func(s string) (string, error) {
	return base64.StdEncoding.EncodeToString([]byte(s)), nil
})

var base64Decode = textFunc(func(s string) (string, error) {
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil || !utf8.Valid(data) {
		return "", fmt.Errorf("not the base64 of UTF-8 text")
	}
	return string(data), nil
})

func textFunc(f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			return cty.StringVal(s), err
		},
	})
}

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

// textSize is about how long a value is when it is printed.
func textSize(v cty.Value) int {
	if v.IsNull() || !v.IsKnown() {
		return 8
	}
	switch t := v.Type(); {
	case t == cty.String:
		return len(v.AsString()) + 2
	case t == cty.Number:
		return 512
	case v.CanIterateElements():
		n := 2
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			n += textSize(k) + 6*textSize(e)
		}
		return n
	}
	return 8
}

// formatCost: every verb may print every argument once, padded; lists are gone through.
func formatCost(args []cty.Value) int {
	format := args[0].AsString()
	size, rounds, width, digits := len(format), 1, 0, 0
	for _, c := range format {
		if c >= '0' && c <= '9' {
			digits = min(digits*10+int(c-'0'), MaxWork)
			width = max(width, digits)
		} else {
			digits = 0
		}
	}
	for _, arg := range args[1:] {
		largest := 0
		if !arg.IsNull() && arg.CanIterateElements() {
			rounds = max(rounds, arg.LengthInt())
			for it := arg.ElementIterator(); it.Next(); {
				_, e := it.Element()
				largest = max(largest, textSize(e))
			}
		} else {
			largest = textSize(arg)
			if !arg.IsNull() && arg.Type() == cty.String && largeNumber.MatchString(arg.AsString()) {
				return MaxWork
			}
		}
		size += strings.Count(format, "%") * largest
	}
	return (size + strings.Count(format, "%")*width) * rounds
}

func joinCost(args []cty.Value) int {
	n := 0
	for _, list := range args[1:] {
		if !list.IsNull() && list.CanIterateElements() {
			n += list.LengthInt()
		}
	}
	return n * len(args[0].AsString())
}

func indentCost(args []cty.Value) int {
	spaces, _ := args[0].AsBigFloat().Int64()
	return int(min(max(spaces, 0), MaxWork)) * (1 + strings.Count(args[1].AsString(), "\n"))
}

func replaceCost(args []cty.Value) int {
	return (len(args[0].AsString()) + 1) * (len(args[2].AsString()) + len(args[1].AsString())/64 + 1) / 4
}

func regexCost(args []cty.Value) int {
	return len(args[0].AsString()) * len(args[1].AsString()) / 64
}

func productCost(args []cty.Value) int {
	n := 8 * len(args)
	for _, arg := range args {
		if arg.CanIterateElements() {
			n = min(n*arg.LengthInt(), MaxWork+1)
		}
	}
	return n
}

func squareCost(args []cty.Value) int {
	if !args[0].CanIterateElements() {
		return 0
	}
	n := args[0].LengthInt()
	return n * n / 4
}
