package ociregistry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/cel"
)

// Policy says who may do what, in place of Anonymous. Of the globs that match a
// repository only the longest counts, and what the rules of that glob don't allow is
// refused, unless an admin rule allows it.
type Policy struct {
	// Rules say who may do what. Default: nobody may do anything.
	Rules []PolicyRule `json:"rules,omitempty"`

	// Admins are asked last, for repositories of any name. Default: none.
	Admins []PolicyAdmin `json:"admins,omitempty"`

	// NoOverwrite lists tags that can't move to something else. Default: none.
	NoOverwrite []authz.NoOverwrite `json:"no_overwrite,omitempty"`

	// ReadOnly are globs of repositories that nobody may push to or delete from.
	// Default: none.
	ReadOnly []string `json:"read_only,omitempty"`
}

// PolicyRule allows actions on the repositories that a glob matches.
type PolicyRule struct {
	authz.Rule
	When
}

// PolicyAdmin allows actions on every repository.
type PolicyAdmin struct {
	authz.Admin
	When
}

// When binds a rule to requests: all of it must be met.
type When struct {
	// Match are request matchers, as sites have them. Default: none.
	MatchRaw caddy.ModuleMap `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// CEL are conditions in the Common Expression Language. Default: none.
	CEL []CELCondition `json:"cel,omitempty"`
}

// CELCondition is a condition in the Common Expression Language, over variables such
// as req.repository and req.client.ip.
type CELCondition struct {
	// Expression is true or false. Required.
	Expression string `json:"expression,omitempty"`

	// Message is what a client is told whom the rule names, and whom the condition
	// keeps out. Default: nothing.
	Message string `json:"message,omitempty"`
}

// provisionPolicy compiles the policy, or what stands for one.
func (r *Registry) provisionPolicy(ctx caddy.Context) error {
	if r.Policy == nil {
		if len(r.Groups) > 0 {
			return errors.New("group: groups are for a policy, and there's none: write one, or leave the groups out")
		}
		var err error
		r.Anonymous, err = authz.ParseAnonymous(string(r.Anonymous))
		r.authorizer = authz.Authenticated{Else: r.Anonymous}
		return err
	}
	if r.Anonymous != "" {
		return errors.New("anonymous and policy contradict each other: leave anonymous out, and write 'allow pull ** to *' into the policy for what everybody may pull")
	}
	config, err := r.policyConfig(ctx)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	for _, f := range authz.Lint(config, r.auth.known()) {
		if !f.Fatal {
			r.log.Warn("policy: "+f.Problem, slog.String("where", f.Where), slog.String("fix", f.Fix))
		}
	}
	if r.policy, err = authz.New(config); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	r.authorizer = &attentive{Policy: r.policy, registry: r, told: make(map[string]time.Time)}
	r.looksAtRequests = slices.ContainsFunc(config.Rules, func(rule authz.Rule) bool { return len(rule.Conditions) > 0 }) ||
		slices.ContainsFunc(config.Admins, func(admin authz.Admin) bool { return len(admin.Conditions) > 0 })
	return nil
}

// conditionsMention reports whether some condition of the policy has word in its text.
func (r *Registry) conditionsMention(word string) bool {
	mentions := func(c authz.Condition) bool {
		s, ok := c.(fmt.Stringer)
		return !ok || strings.Contains(s.String(), word)
	}
	return slices.ContainsFunc(r.Policy.Rules, func(rule PolicyRule) bool { return slices.ContainsFunc(rule.Conditions, mentions) }) ||
		slices.ContainsFunc(r.Policy.Admins, func(admin PolicyAdmin) bool { return slices.ContainsFunc(admin.Conditions, mentions) })
}

// policyConfig returns the policy as package authz has it.
func (r *Registry) policyConfig(ctx caddy.Context) (authz.Config, error) {
	p := r.Policy
	c := authz.Config{NoOverwrite: p.NoOverwrite, ReadOnly: p.ReadOnly, Groups: r.Groups}
	for i := range p.Rules {
		rule := &p.Rules[i]
		conditions, err := rule.provision(ctx)
		if err != nil {
			return c, fmt.Errorf("rule %d: %w", i+1, err)
		}
		rule.Conditions = conditions
		c.Rules = append(c.Rules, rule.Rule)
	}
	for i := range p.Admins {
		admin := &p.Admins[i]
		conditions, err := admin.provision(ctx)
		if err != nil {
			return c, fmt.Errorf("admin rule %d: %w", i+1, err)
		}
		admin.Conditions = conditions
		c.Admins = append(c.Admins, admin.Admin)
	}
	return c, nil
}

// provision returns the conditions, ready to be asked.
func (w *When) provision(ctx caddy.Context) ([]authz.Condition, error) {
	all, err := w.loadMatchers(ctx)
	for _, c := range w.CEL {
		condition, cerr := cel.New(c.Expression, cel.Options{Message: c.Message})
		all, err = append(all, condition), errors.Join(err, cerr)
	}
	return all, err
}

// loadMatchers returns the matchers as one condition, if there are any.
func (w *When) loadMatchers(ctx caddy.Context) ([]authz.Condition, error) {
	if len(w.MatchRaw) == 0 {
		return nil, nil
	}
	names := slices.Sorted(maps.Keys(w.MatchRaw))
	raw, err := json.Marshal(w.MatchRaw)
	if err != nil {
		return nil, err
	}
	loaded, err := ctx.LoadModule(w, "MatchRaw")
	if err != nil {
		return nil, fmt.Errorf("when %s: %w", strings.Join(names, ", "), err)
	}
	modules, _ := loaded.(map[string]any)
	var sets caddyhttp.MatcherSets
	if err := sets.FromInterface([]map[string]any{modules}); err != nil {
		return nil, err
	}
	return []authz.Condition{matched{sets, string(raw)}}, nil
}

// matched is a condition that Caddy's request matchers decide.
type matched struct {
	sets caddyhttp.MatcherSets
	text string
}

// Met implements authz.Condition.
func (m matched) Met(ctx context.Context, _ authz.Case) (bool, error) {
	r, ok := ctx.Value(requestKey{}).(*http.Request)
	if !ok {
		return false, errNoRequest
	}
	return m.sets.AnyMatchWithError(r)
}

// Message implements authz.Condition.
func (matched) Message() string { return "" }

// String returns what the matchers are.
func (m matched) String() string { return m.text }

var errNoRequest = errors.New("it's about a request, and there's none")

// requestKey is the key of a context's *http.Request.
type requestKey struct{}

// withRequest returns r with itself in its context, if a rule looks at requests.
func (r *Registry) withRequest(req *http.Request) *http.Request {
	if !r.looksAtRequests {
		return req
	}
	return req.WithContext(inContext(req.Context(), req))
}

// inContext returns a context that has req for conditions to look at.
func inContext(ctx context.Context, req *http.Request) context.Context {
	about := &cel.Request{Method: req.Method, UserAgent: req.UserAgent(), Time: time.Now()}
	for _, line := range req.Header.Values("X-Forwarded-For") {
		for address := range strings.SplitSeq(line, ",") {
			about.ForwardedFor = append(about.ForwardedFor, strings.TrimSpace(address))
		}
	}
	if req.TLS != nil {
		about.TLSVersion = strings.TrimPrefix(tls.VersionName(req.TLS.Version), "TLS ")
	}
	return cel.WithRequest(context.WithValue(ctx, requestKey{}, req), about)
}

// anonymousMay reports whether callers who haven't signed in may do anything.
func (r *Registry) anonymousMay() bool {
	if r.Policy == nil {
		return r.Anonymous != authz.AnonymousNone
	}
	return slices.ContainsFunc(r.Policy.Rules, func(rule PolicyRule) bool {
		return slices.Contains(rule.To, "*") || slices.Contains(rule.To, "anonymous")
	})
}
