// Package option parses the options of Caddyfiles: what a block may hold, and the values
// that options have. What is wrong is said with the option's name and what it wants. It
// has what else values of options need, too: placeholders, certificates, secrets.
package option

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Parser parses what follows an option's name in a Caddyfile. The dispenser
// stands on the name.
type Parser func(d *caddyfile.Dispenser) error

// Set is the options of one block, by name.
type Set map[string]Parser

// Block parses the rest of a directive: a block of options, or nothing.
// It alone knows the rules all blocks share: no option is unknown, none is
// given twice but those that are repeatable, and none leaves arguments over.
func Block(d *caddyfile.Dispenser, opts Set, repeatable ...string) error {
	if d.NextArg() {
		return d.Errf("unexpected argument %q", d.Val())
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse, ok := opts[name]
		switch {
		case !ok && len(opts) == 0:
			return d.Errf("unknown option %q: there are no options here", name)
		case !ok:
			return d.Errf("unknown option %q: want one of %s", name, strings.Join(slices.Sorted(maps.Keys(opts)), ", "))
		case seen[name] && !slices.Contains(repeatable, name):
			return d.Errf("option %s is given twice: keep one", name)
		}
		seen[name] = true
		if err := parse(d); err != nil {
			return err
		}
		if d.NextArg() {
			return d.Errf("unexpected %q after option %s", d.Val(), name)
		}
	}
	return nil
}

// Argument returns the one argument of the option that d stands on.
func Argument(d *caddyfile.Dispenser, want string) (string, error) {
	name := d.Val()
	if !d.NextArg() {
		return "", d.Errf("option %s has no value: want %s %s", name, name, want)
	}
	if d.Val() == "" {
		return "", d.Errf("option %s is empty: want %s %s, or leave it out", name, name, want)
	}
	return d.Val(), nil
}
