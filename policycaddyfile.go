package ociregistry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/cel"
	"github.com/caddy-oci/oci-registry/internal/option"
)

// policy parses
//
//	policy {
//		allow ACTION… GLOB… to WHO… [when …]
//		admin ACTION… to WHO… [when …]
//		no_overwrite TAGGLOB… [in GLOB]
//		read_only GLOB…
//	}
//
// A block after a rule takes further conditions, each a line that begins with when.
func policy(to **Policy) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		p := new(Policy)
		*to = p
		return option.Block(d, option.Set{
			"allow":        p.unmarshalAllow,
			"admin":        p.unmarshalAdmin,
			"no_overwrite": p.unmarshalNoOverwrite,
			"read_only":    p.unmarshalReadOnly,
		}, "allow", "admin", "no_overwrite", "read_only")
	}
}

// group parses "group NAME MEMBER…".
func group(to *map[string][]string) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		name, err := option.Argument(d, "NAME MEMBER…")
		if err != nil {
			return err
		}
		members := d.RemainingArgs()
		if len(members) == 0 {
			return d.Errf("group %s has no members: want group NAME MEMBER…", name)
		}
		if _, twice := (*to)[name]; twice {
			return d.Errf("group %s is given twice: put all its members into one line", name)
		}
		if *to == nil {
			*to = make(map[string][]string)
		}
		(*to)[name] = members
		return nil
	}
}

const allowSyntax = "allow ACTION… GLOB… to WHO… [when …]"

func (p *Policy) unmarshalAllow(d *caddyfile.Dispenser) error {
	actions, globs := actionsAndGlobs(until(d, "to"))
	if len(globs) == 0 {
		return d.Errf("allow: which repositories? Want %s, such as 'allow pull team/** to alice'", allowSyntax)
	}
	written := writtenAt(d)
	to, when, err := whom(d, allowSyntax)
	if err != nil {
		return err
	}
	for _, g := range globs {
		p.Rules = append(p.Rules, PolicyRule{authz.Rule{Allow: actions, Repositories: g, To: to, Written: written}, when})
	}
	return nil
}

const adminSyntax = "admin ACTION… to WHO… [when …]"

func (p *Policy) unmarshalAdmin(d *caddyfile.Dispenser) error {
	actions, rest := actionsAndGlobs(until(d, "to"))
	if len(rest) > 0 {
		return d.Errf("admin %q: want %s; an admin rule is for all repositories, of the actions pull, push, overwrite, delete and list", rest[0], adminSyntax)
	}
	written := writtenAt(d)
	to, when, err := whom(d, adminSyntax)
	if err != nil {
		return err
	}
	p.Admins = append(p.Admins, PolicyAdmin{authz.Admin{Allow: actions, To: to, Written: written}, when})
	return nil
}

// writtenAt is where d stands, for messages about what is found out only once all of the
// policy is known.
func writtenAt(d *caddyfile.Dispenser) string { return fmt.Sprintf("%s:%d", d.File(), d.Line()) }

// until returns the arguments before a word, and stands on it if it's there.
func until(d *caddyfile.Dispenser, word string) []string {
	var all []string
	for d.NextArg() && d.Val() != word {
		all = append(all, d.Val())
	}
	return all
}

// actionsAndGlobs takes apart what stands before to.
func actionsAndGlobs(words []string) (actions []authz.Action, globs []string) {
	known := []authz.Action{authz.Pull, authz.Push, authz.Overwrite, authz.Delete, authz.List}
	for i, w := range words {
		if !slices.Contains(known, authz.Action(w)) {
			return actions, words[i:]
		}
		actions = append(actions, authz.Action(w))
	}
	return actions, nil
}

// whom parses what follows to: who it is, and when.
func whom(d *caddyfile.Dispenser, syntax string) (to []string, w When, err error) {
	if d.Val() != "to" {
		return nil, w, d.Errf("to whom? Want %s", syntax)
	}
	to = until(d, "when")
	if len(to) == 0 {
		return nil, w, d.Errf("to whom? Want %s; WHO is a user, group:NAME, anonymous, authenticated, or * for everybody", syntax)
	}
	if d.Val() == "when" {
		err = w.unmarshal(d)
	} else {
		err = option.Block(d, option.Set{"when": w.unmarshal}, "when")
	}
	return to, w, err
}

// unmarshal parses "when MATCHER …", where MATCHER is one of Caddy's request matchers,
// and "when cel EXPRESSION [MESSAGE]".
func (w *When) unmarshal(d *caddyfile.Dispenser) error {
	name, err := option.Argument(d, "MATCHER …, such as 'when client_ip 10.0.0.0/8'")
	if err != nil {
		return err
	}
	if name == "cel" {
		return w.unmarshalCEL(d)
	}
	if names := option.ModuleNames("http.matchers"); !slices.Contains(names, name) {
		return d.Errf("when %s: want cel, or a request matcher: one of %s", name, strings.Join(names, ", "))
	}
	if w.MatchRaw[name] != nil {
		return d.Errf("when %s is given twice for one rule, and both would have to be met: keep one", name)
	}
	m, err := caddyfile.UnmarshalModule(d, "http.matchers."+name)
	if err != nil {
		return err
	}
	if w.MatchRaw == nil {
		w.MatchRaw = make(caddy.ModuleMap)
	}
	w.MatchRaw[name] = caddyconfig.JSON(m, nil)
	return nil
}

func (w *When) unmarshalCEL(d *caddyfile.Dispenser) error {
	var c CELCondition
	if !d.Args(&c.Expression) {
		return d.Errf("when cel: want when cel EXPRESSION [MESSAGE], such as 'when cel `req.client.ip == \"10.0.0.1\"`'")
	}
	if d.NextArg() {
		c.Message = d.Val()
	}
	w.CEL = append(w.CEL, c)
	if d.NextArg() {
		return d.Errf("when cel: unexpected %q: put the expression between backticks", d.Val())
	}
	if _, err := cel.New(c.Expression, cel.Options{}); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (p *Policy) unmarshalNoOverwrite(d *caddyfile.Dispenser) error {
	n := authz.NoOverwrite{Tags: until(d, "in")}
	if len(n.Tags) == 0 {
		return d.Errf("no_overwrite: which tags? Want no_overwrite TAGGLOB… [in GLOB], such as 'no_overwrite v*'")
	}
	if d.Val() == "in" {
		if !d.NextArg() {
			return d.Errf("no_overwrite … in: which repositories? Want a glob such as team/**")
		}
		n.Repositories = d.Val()
	}
	p.NoOverwrite = append(p.NoOverwrite, n)
	return nil
}

func (p *Policy) unmarshalReadOnly(d *caddyfile.Dispenser) error {
	globs := d.RemainingArgs()
	if len(globs) == 0 {
		return d.Errf("read_only: which repositories? Want read_only GLOB…; without a policy, the option read_only of the registry is for all")
	}
	p.ReadOnly = append(p.ReadOnly, globs...)
	return nil
}
