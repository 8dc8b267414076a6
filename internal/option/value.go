package option

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-oci/oci-registry/tasks"
)

// Flag parses an option without arguments, whose being there makes it true.
func Flag(to *bool) Parser {
	return func(*caddyfile.Dispenser) error {
		*to = true
		return nil
	}
}

// OnOff parses on or off.
func OnOff(to **bool) Parser {
	return func(d *caddyfile.Dispenser) error {
		var word string
		err := Choice(&word, "on", "off")(d)
		*to = new(word == "on")
		return err
	}
}

// Text parses one argument, whatever it is.
func Text(to *string, want string) Parser {
	return func(d *caddyfile.Dispenser) (err error) {
		*to, err = Argument(d, want)
		return err
	}
}

// Words parses one or more words.
func Words(to *[]string, want string) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		*to = d.RemainingArgs()
		if len(*to) == 0 {
			return d.Errf("option %s has no value: want %s %s", name, name, want)
		}
		return nil
	}
}

// Checked parses one argument that check finds right. What has placeholders isn't known
// yet, and is checked once it is.
func Checked(to *string, check func(string) error) Parser {
	return func(d *caddyfile.Dispenser) (err error) {
		if *to, err = Argument(d, "VALUE"); err != nil || strings.Contains(*to, "{") {
			return err
		}
		if err := check(*to); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// Choice parses one of the words.
func Choice[T ~string](to *T, words ...T) Parser {
	return func(d *caddyfile.Dispenser) error {
		name, want := d.Val(), make([]string, len(words))
		for i, w := range words {
			want[i] = string(w)
		}
		word, err := Argument(d, strings.Join(want, "|"))
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

// Size parses a number of bytes, with a unit or without.
func Size(to *int64) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		s, err := Argument(d, "SIZE, like 4MiB")
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

// Number parses a number above zero.
func Number(to *int) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		s, err := Argument(d, "NUMBER")
		if err != nil {
			return err
		}
		if *to, err = strconv.Atoi(s); err != nil || *to <= 0 {
			return d.Errf("%s %q: want a number above 0; leave the option out for its default", name, s)
		}
		return nil
	}
}

// Duration parses a time such as 90m, 24h or 14d.
func Duration(to *caddy.Duration) Parser {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		s, err := Argument(d, "DURATION, like 90m, 24h or 14d")
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

// Window parses two times of day.
func Window(to *string) Parser {
	return func(d *caddyfile.Dispenser) error {
		from, err := Argument(d, "FROM TO, like 22:00 06:00")
		if err != nil {
			return err
		}
		if !d.NextArg() {
			return d.Errf("window %s has no end: want window FROM TO, like 22:00 06:00", from)
		}
		*to = from + "-" + d.Val()
		if _, err := ParseWindow(*to); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// ParseWindow reads FROM-TO.
func ParseWindow(s string) (tasks.Window, error) {
	if s == "" {
		return tasks.Window{}, nil
	}
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return tasks.Window{}, fmt.Errorf("window %q: want FROM-TO, like 22:00-06:00", s)
	}
	return tasks.ParseWindow(from, to)
}
