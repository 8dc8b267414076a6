package ociregistry

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-oci/oci-registry/tasks"
)

// option parses what follows an option's name in a Caddyfile. The dispenser
// stands on the name.
type option func(d *caddyfile.Dispenser) error

// options are the options of one block, by name.
type options map[string]option

// parseBlock parses the rest of a directive: a block of options, or nothing.
// It alone knows the rules all blocks share: no option is unknown, none is
// given twice but those that are repeatable, and none leaves arguments over.
func parseBlock(d *caddyfile.Dispenser, opts options, repeatable ...string) error {
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

// argument returns the one argument of the option that d stands on.
func argument(d *caddyfile.Dispenser, want string) (string, error) {
	name := d.Val()
	if !d.NextArg() {
		return "", d.Errf("option %s has no value: want %s %s", name, name, want)
	}
	if d.Val() == "" {
		return "", d.Errf("option %s is empty: want %s %s, or leave it out", name, name, want)
	}
	return d.Val(), nil
}

// warnOfSecret tells the operator of a secret that stands in the configuration itself, where
// /config/ of the admin endpoint shows it. now is what it stands for.
func warnOfSecret(log *slog.Logger, option, value, now string) {
	if value != "" && value == now {
		log.Warn(option+" is written into the configuration, which the admin endpoint shows at /config/ and Caddy saves",
			slog.String("fix", "put it into a file or the environment, and write {file./path} or {env.NAME}; a Caddyfile's {$NAME} is replaced too early"))
	}
}

// isSet parses an option without arguments, whose being there makes it true.
func isSet(to *bool) option {
	return func(*caddyfile.Dispenser) error {
		*to = true
		return nil
	}
}

// onOff parses on or off.
func onOff(to **bool) option {
	return func(d *caddyfile.Dispenser) error {
		var word string
		err := choice(&word, "on", "off")(d)
		*to = new(word == "on")
		return err
	}
}

// text parses one argument that check, if there's one, finds right. What has
// placeholders isn't known yet, and is checked once it is.
func text(to *string, check func(string) error) option {
	return func(d *caddyfile.Dispenser) (err error) {
		if *to, err = argument(d, "VALUE"); err != nil || check == nil || strings.Contains(*to, "{") {
			return err
		}
		if err := check(*to); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// choice parses one of the words.
func choice[T ~string](to *T, words ...T) option {
	return func(d *caddyfile.Dispenser) error {
		name, want := d.Val(), make([]string, len(words))
		for i, w := range words {
			want[i] = string(w)
		}
		word, err := argument(d, strings.Join(want, "|"))
		if err != nil {
			return err
		}
		*to = T(word)
		if !slices.Contains(words, *to) {
			return d.Errf("%s %q: want %s", name, word, strings.Join(want, " or "))
		}
		return nil
	}
}

// size parses a number of bytes, with a unit or without.
func size(to *int64) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		s, err := argument(d, "SIZE, like 4MiB")
		if err != nil {
			return err
		}
		n, err := humanize.ParseBytes(s)
		if err != nil || n == 0 || n > math.MaxInt64 {
			return d.Errf("%s %q: want a size like 4MiB or 10GB; leave the option out for its default", name, s)
		}
		*to = int64(n)
		return nil
	}
}

// number parses a number above zero.
func number(to *int) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		s, err := argument(d, "NUMBER")
		if err != nil {
			return err
		}
		if *to, err = strconv.Atoi(s); err != nil || *to <= 0 {
			return d.Errf("%s %q: want a number above 0; leave the option out for its default", name, s)
		}
		return nil
	}
}

// duration parses a time such as 90m, 24h or 14d.
func duration(to *caddy.Duration) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		s, err := argument(d, "DURATION, like 90m, 24h or 14d")
		if err != nil {
			return err
		}
		dur, err := caddy.ParseDuration(s)
		if err != nil || dur <= 0 {
			return d.Errf("%s %q: want a time like 90m, 24h or 14d; leave the option out for its default", name, s)
		}
		*to = caddy.Duration(dur)
		return nil
	}
}

// window parses two times of day.
func window(to *string) option {
	return func(d *caddyfile.Dispenser) error {
		from, err := argument(d, "FROM TO, like 22:00 06:00")
		if err != nil {
			return err
		}
		if !d.NextArg() {
			return d.Errf("window %s has no end: want window FROM TO, like 22:00 06:00", from)
		}
		*to = from + "-" + d.Val()
		if _, err := parseWindow(*to); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// parseWindow reads FROM-TO.
func parseWindow(s string) (tasks.Window, error) {
	if s == "" {
		return tasks.Window{}, nil
	}
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return tasks.Window{}, fmt.Errorf("window %q: want FROM-TO, like 22:00-06:00", s)
	}
	return tasks.ParseWindow(from, to)
}

// module parses the configuration of one of the modules of a namespace.
func module(to *json.RawMessage, namespace, inlineKey string) option {
	return func(d *caddyfile.Dispenser) error {
		name, err := argument(d, strings.Join(moduleNames(namespace), "|")+" { … }")
		if err != nil {
			return err
		}
		if names := moduleNames(namespace); !slices.Contains(names, name) {
			return d.Errf("no module %s.%s is in this build of Caddy: want one of %s, or add the plugin that has it", namespace, name, strings.Join(names, ", "))
		}
		m, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
		if err != nil {
			return err
		}
		*to = caddyconfig.JSONModuleObject(m, inlineKey, name, nil)
		return nil
	}
}
