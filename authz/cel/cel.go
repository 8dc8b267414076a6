// Package cel has conditions for rules of a policy that are written in CEL, the
// Common Expression Language, about the request:
//
//	req.time                 timestamp; compare it with timestamp("2026-01-31T00:00:00Z")
//	req.method               string     "GET"
//	req.userAgent            string
//	req.action               string     "pull", "push", "overwrite", "delete" or "list"
//	req.repository           string     "team/app"; empty for the registry as such
//	req.reference            string     the tag or digest of a manifest; empty if there's none
//	req.referenceType        string     "tag", "digest" or empty
//	req.tag, req.digest      string     the reference, if it's the one or the other
//	req.user.username        string     empty if nobody has signed in
//	req.user.groups          list of strings
//	req.auth.anonymous       bool
//	req.auth.admin           bool       some admin rule names the user
//	req.client.ip            string     as Caddy sees the client, behind trusted proxies too
//	req.client.forwardedFor  list of strings; whatever the client wrote into X-Forwarded-For
//	req.tls.enabled          bool
//	req.tls.version          string     "1.3"; empty without TLS
//	req.claims               map        what the identity source said beside that
//
// These are the variables of zot, with the same types. Beside CEL's own functions
// there are those for strings, sets, base64, IP addresses and optional values:
//
//	req.time.getDayOfWeek() < 6 && cidr("10.0.0.0/8").containsIP(req.client.ip)
package cel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/caddy-oci/oci-registry/authz"
)

const (
	// maxCost is what one evaluation may cost, in CEL's units, of which a comparison
	// takes about one: about 10 ms.
	maxCost = 100_000

	// maxSize is how long an expression may be, in characters.
	maxSize = 16 << 10

	// checkEvery is after how many steps of a loop a request that's gone is noticed.
	checkEvery = 100
)

// Options say what New can't read from an expression.
type Options struct {
	// Message is what a client is told whom the rule names and the condition keeps
	// out. Default: nothing.
	Message string

	// Actions are the values of req.action, for expressions that were written for
	// another registry. Default: the actions as they're called here.
	Actions map[authz.Action]string
}

// Condition is an authz.Condition in CEL. It's safe for concurrent use.
type Condition struct {
	expression string
	program    cel.Program
	opts       Options
}

var _ authz.Condition = (*Condition)(nil)

// New compiles an expression. It returns an error if the expression isn't of type
// bool, or names what there isn't. What claims are made of isn't known before there
// are any, so mistakes there show when the condition is asked.
func New(expression string, o Options) (*Condition, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return nil, fmt.Errorf("condition %q: %w", expression, problem(issues))
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("condition %q: it's of type %s; write a comparison, which is true or false", expression, t)
	}
	program, err := env.Program(ast,
		cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		return nil, fmt.Errorf("condition %q: %w", expression, err)
	}
	return &Condition{expression, program, o}, nil
}

// environment is what expressions are compiled in.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	declared := make([]cel.EnvOption, 0, len(variables))
	for name, v := range variables {
		declared = append(declared, cel.Variable(name, v.of))
	}
	return cel.NewEnv(append(
		declared,
		cel.OptionalTypes(), ext.Strings(), ext.Sets(), ext.Encoders(), ext.Network(),
		cel.HomogeneousAggregateLiterals(), cel.EagerlyValidateDeclarations(true), cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true), cel.ParserExpressionSizeLimit(maxSize),
	)...)
})

// problem returns what's wrong in one line, with the variables there are if it's
// about one that there isn't.
func problem(issues *cel.Issues) error {
	all := make([]string, 0, len(issues.Errors()))
	for _, e := range issues.Errors() {
		text := fmt.Sprintf("at %d:%d: %s", e.Location.Line(), e.Location.Column()+1, e.Message)
		if strings.HasPrefix(e.Message, "undeclared reference") {
			text += "; there are " + strings.Join(slices.Sorted(maps.Keys(variables)), ", ")
		}
		all = append(all, text)
	}
	return errors.New(strings.Join(all, "; "))
}

// Met implements authz.Condition.
func (c *Condition) Met(ctx context.Context, asked authz.Case) (bool, error) {
	v, _, err := c.program.ContextEval(ctx, newActivation(ctx, c, asked))
	if err != nil {
		return false, err
	}
	if b, ok := v.(types.Bool); ok {
		return bool(b), nil
	}
	return false, fmt.Errorf("it's of type %s and not bool", v.Type().TypeName())
}

// Message implements authz.Condition.
func (c *Condition) Message() string { return c.opts.Message }

// String returns the expression.
func (c *Condition) String() string { return c.expression }
