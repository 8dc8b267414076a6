package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
)

// A Mapping says in CEL what a token's claims mean. Expressions know the map
// "claims", and CEL's extensions for strings and sets. One that fails, since a claim
// isn't there or it's too much work, refuses the token.
type Mapping struct {
	// Variables are computed in order. The expressions after one know it as
	// "vars.<name>".
	Variables []Variable

	// Validations must all be true.
	Validations []Validation

	// User is the expression of Identity.ID, a string. Two issuers whose names could
	// be the same need their own. Default: claims.iss + '/' + claims.sub, or claims.sub
	// of an issuer that's known by its trust domain alone.
	User string

	// Groups is the expression of the groups, a list of strings. Default: none.
	Groups string
}

// A Variable is a value with a name.
type Variable struct{ Name, Expression string }

// A Validation is a condition, and what's said if it isn't true. Default of Message:
// the expression.
type Validation struct{ Expression, Message string }

const (
	defaultUser = "claims.iss + '/' + claims.sub"

	// maxCost is how much work one expression may be, in CEL's units: some
	// milliseconds.
	maxCost = 100_000
)

var variableName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

type mapping struct {
	variables   []expression
	validations []expression
	user        expression
	groups      *expression
}

type expression struct {
	name    string // what errors call it, and the name of a variable
	program cel.Program
}

// compile checks all types that can be known before there's a token.
func (m Mapping) compile() (*mapping, error) {
	env, err := cel.NewEnv(
		cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)), ext.Strings(), ext.Sets())
	if err != nil {
		return nil, err
	}
	made := new(mapping)
	for _, v := range m.Variables {
		if env, err = made.addVariable(env, v); err != nil {
			return nil, fmt.Errorf("variable %q: %w", v.Name, err)
		}
	}
	for _, v := range m.Validations {
		if err := made.addValidation(env, v); err != nil {
			return nil, fmt.Errorf("validation: %w", err)
		}
	}
	if m.User == "" {
		m.User = defaultUser
	}
	if made.user, _, err = compile(env, m.User, types.StringKind); err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	if m.Groups == "" {
		return made, nil
	}
	groups, out, err := compile(env, m.Groups, types.ListKind)
	if err == nil && out.Kind() == types.ListKind && !slices.Contains(stringOrDyn, out.Parameters()[0].Kind()) {
		err = fmt.Errorf("%s is a %s, want a list of strings", m.Groups, out)
	}
	if err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	made.groups = &groups
	return made, nil
}

var stringOrDyn = []types.Kind{types.StringKind, types.DynKind, types.TypeParamKind}

func (m *mapping) addVariable(env *cel.Env, v Variable) (*cel.Env, error) {
	if !variableName.MatchString(v.Name) {
		return nil, errors.New("want a name of letters, digits and _")
	}
	e, out, err := compile(env, v.Expression, types.DynKind)
	if err != nil {
		return nil, err
	}
	e.name = "vars." + v.Name
	if slices.ContainsFunc(m.variables, func(other expression) bool { return other.name == e.name }) {
		return nil, errors.New("there are two of that name")
	}
	m.variables = append(m.variables, e)
	return env.Extend(cel.Variable(e.name, out))
}

func (m *mapping) addValidation(env *cel.Env, v Validation) error {
	e, _, err := compile(env, v.Expression, types.BoolKind)
	if v.Message != "" {
		e.name = v.Message
	}
	m.validations = append(m.validations, e)
	return err
}

// compile returns an expression and its type, which is of the kind or unknown.
func compile(env *cel.Env, text string, want types.Kind) (expression, *cel.Type, error) {
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return expression{}, nil, err
	}
	out := ast.OutputType()
	if want != types.DynKind && out.Kind() != want && out.Kind() != types.DynKind {
		return expression{}, nil, fmt.Errorf("%s is a %s, want a %s", text, out, kindNames[want])
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize), cel.InterruptCheckFrequency(1000))
	return expression{text, program}, out, err
}

var kindNames = map[types.Kind]string{
	types.BoolKind: "bool", types.StringKind: "string", types.ListKind: "list of strings",
}

// identity returns whom the claims mean. Errors are authn.ErrRefused, and name
// expressions, not what they were given.
func (m *mapping) identity(ctx context.Context, claims issuer.Claims) (authz.Identity, error) {
	input := map[string]any{"claims": map[string]any(claims)}
	for _, e := range m.variables {
		value, err := e.eval(ctx, input)
		if err != nil {
			return authz.Identity{}, err
		}
		input[e.name] = value
	}
	for _, e := range m.validations {
		value, err := e.eval(ctx, input)
		if err != nil {
			return authz.Identity{}, err
		}
		if value != types.True {
			return authz.Identity{}, refuse("not valid: %s", e.name)
		}
	}
	who := authz.Identity{Claims: maps.Clone(claims)}
	if err := m.user.evalTo(ctx, input, &who.ID); err != nil {
		return authz.Identity{}, err
	}
	if m.groups != nil {
		if err := m.groups.evalTo(ctx, input, &who.Groups); err != nil {
			return authz.Identity{}, err
		}
	}
	return who, nil
}

func (e *expression) eval(ctx context.Context, input map[string]any) (ref.Val, error) {
	value, _, err := e.program.ContextEval(ctx, input)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, refuse("%s: %w", e.name, err)
	}
	return value, nil
}

// evalTo stores the value in a pointer to a Go value of a fitting type.
func (e *expression) evalTo(ctx context.Context, input map[string]any, to any) error {
	value, err := e.eval(ctx, input)
	if err != nil {
		return err
	}
	target := reflect.ValueOf(to).Elem()
	native, err := value.ConvertToNative(target.Type())
	if err != nil {
		return refuse("%s is a %s, want a %s", e.name, value.Type().TypeName(), target.Type())
	}
	target.Set(reflect.ValueOf(native))
	return nil
}
