package option_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/internal/option"
)

// all is one option of each kind.
type all struct {
	flag, on bool
	text     string
	checked  string
	words    []string
	choice   string
	size     int64
	number   int
	duration caddy.Duration
	window   string
}

func parse(t *testing.T, block string) (all, error) {
	t.Helper()
	var got all
	on := new(bool)
	d := caddyfile.NewTestDispenser("directive {\n" + block + "\n}")
	d.Next()
	err := option.Block(d, option.Set{
		"flag": option.Flag(&got.flag), "on": option.OnOff(&on), "text": option.Text(&got.text, "TEXT"),
		"checked": option.Checked(&got.checked, func(s string) error {
			if s == "wrong" {
				return d.Err("it is wrong")
			}
			return nil
		}),
		"words": option.Words(&got.words, "WORD…"), "choice": option.Choice(&got.choice, "left", "right"),
		"size": option.Size(&got.size), "number": option.Number(&got.number),
		"duration": option.Duration(&got.duration), "window": option.Window(&got.window),
	}, "words")
	got.on = *on
	return got, err
}

func TestBlock(t *testing.T) {
	t.Parallel()
	got, err := parse(t, `flag
		on on
		text {env.X}
		checked right
		words a
		words b c
		choice right
		size 4MiB
		number 7
		duration 14d
		window 22:00 06:00`)
	if err != nil {
		t.Fatal(err)
	}
	if !got.flag || !got.on || got.text != "{env.X}" || got.checked != "right" || strings.Join(got.words, " ") != "b c" ||
		got.choice != "right" || got.size != 4<<20 || got.number != 7 || time.Duration(got.duration) != 14*24*time.Hour ||
		got.window != "22:00-06:00" {
		t.Errorf("read as %+v", got)
	}
}

// What is wrong is said with the option's name, and what would be right.
func TestBlockRefuses(t *testing.T) {
	t.Parallel()
	for block, want := range map[string]string{
		"flag x":               `unexpected "x" after option flag`,
		"flag\nflag":           "option flag is given twice",
		"flags":                `unknown option "flags": want one of checked, choice, duration, flag`,
		"text":                 "option text has no value: want text TEXT",
		`text ""`:              "option text is empty: want text TEXT, or leave it out",
		"checked wrong":        "it is wrong",
		"words":                "option words has no value: want words WORD…",
		"choice up":            `choice "up": want left or right`,
		"on maybe":             `on "maybe": want on or off`,
		"size 0":               `size "0": want a size like 4MiB`,
		"size many":            `size "many": want a size`,
		"number 0":             `number "0": want a number above 0`,
		"number 1.5":           `number "1.5": want a number above 0`,
		"duration -1s":         `duration "-1s": want a time like`,
		"window 22:00":         "window 22:00 has no end",
		"window 22:00 morning": "morning",
	} {
		if _, err := parse(t, block); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", block, err, want)
		}
	}
}

// What has placeholders isn't known before they are replaced.
func TestCheckedLetsPlaceholdersBe(t *testing.T) {
	t.Parallel()
	if got, err := parse(t, "checked {env.wrong}"); err != nil || got.checked != "{env.wrong}" {
		t.Errorf("%+v, error %v", got, err)
	}
}

func TestParseWindow(t *testing.T) {
	t.Parallel()
	for s, valid := range map[string]bool{"": true, "22:00-06:00": true, "22:00": false, "22:00-25:00": false} {
		if _, err := option.ParseWindow(s); (err == nil) != valid {
			t.Errorf("%q: error %v", s, err)
		}
	}
}
