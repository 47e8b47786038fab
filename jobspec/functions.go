package jobspec

import (
	"encoding/base64"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
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
