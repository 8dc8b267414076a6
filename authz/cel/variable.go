package cel

import (
	"context"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/caddy-oci/oci-registry/authz"
)

// variable is one of the names that an expression can use. Each has its dots in
// its name, so that only what an expression uses is looked up.
type variable struct {
	of  *cel.Type
	get func(*activation) any
}

var (
	list   = cel.ListType(cel.StringType)
	claims = cel.MapType(cel.StringType, cel.DynType)
)

var variables = map[string]variable{
	"req.time":          {cel.TimestampType, (*activation).time},
	"req.action":        {cel.StringType, (*activation).action},
	"req.repository":    {cel.StringType, func(a *activation) any { return a.asked.Access.Repository.String() }},
	"req.reference":     {cel.StringType, func(a *activation) any { return a.asked.Access.Reference.String() }},
	"req.referenceType": {cel.StringType, func(a *activation) any { return kind(a.tag() != "", a.digest() != "") }},
	"req.tag":           {cel.StringType, func(a *activation) any { return a.tag() }},
	"req.digest":        {cel.StringType, func(a *activation) any { return a.digest() }},

	"req.user.username":  {cel.StringType, func(a *activation) any { return a.who().ID }},
	"req.user.groups":    {list, func(a *activation) any { return a.who().Groups }},
	"req.auth.anonymous": {cel.BoolType, func(a *activation) any { return a.who().IsAnonymous() }},
	"req.auth.admin":     {cel.BoolType, func(a *activation) any { return a.asked.Admin }},
	"req.claims":         {claims, func(a *activation) any { return a.who().Claims }},

	"req.client.ip":           {cel.StringType, (*activation).ip},
	"req.client.forwardedFor": {list, ofRequest(func(r *Request) any { return r.ForwardedFor })},
	"req.method":              {cel.StringType, ofRequest(func(r *Request) any { return r.Method })},
	"req.userAgent":           {cel.StringType, ofRequest(func(r *Request) any { return r.UserAgent })},
	"req.tls.enabled":         {cel.BoolType, ofRequest(func(r *Request) any { return r.TLSVersion != "" })},
	"req.tls.version":         {cel.StringType, ofRequest(func(r *Request) any { return r.TLSVersion })},
}

// ofRequest makes what looks at the request an error if there's none.
func ofRequest(get func(*Request) any) func(*activation) any {
	return func(a *activation) any {
		if a.request == nil {
			return types.NewErr("nothing is known of the request")
		}
		return get(a.request)
	}
}

func kind(isTag, isDigest bool) string {
	switch {
	case isTag:
		return "tag"
	case isDigest:
		return "digest"
	}
	return ""
}

// activation is one evaluation's variables.
type activation struct {
	actions map[authz.Action]string
	request *Request
	asked   authz.Case
}

var _ cel.Activation = (*activation)(nil)

func newActivation(ctx context.Context, c *Condition, asked authz.Case) *activation {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return &activation{c.opts.Actions, r, asked}
}

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	v, ok := variables[name]
	if !ok {
		return nil, false
	}
	return v.get(a), true
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

func (a *activation) who() *authz.Identity { return &a.asked.Question.Who }

func (a *activation) time() any {
	if a.request == nil || a.request.Time.IsZero() {
		return time.Now()
	}
	return a.request.Time
}

func (a *activation) action() any {
	if name, ok := a.actions[a.asked.Access.Action]; ok {
		return name
	}
	return string(a.asked.Access.Action)
}

func (a *activation) tag() string {
	t, _ := a.asked.Access.Reference.Tag()
	return t.String()
}

func (a *activation) digest() string {
	d, _ := a.asked.Access.Reference.Digest()
	return d.String()
}

func (a *activation) ip() any {
	if !a.asked.Question.Client.IsValid() {
		return types.NewErr("the client's address isn't known")
	}
	return a.asked.Question.Client.Unmap().String()
}
