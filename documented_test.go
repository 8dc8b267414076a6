package ociregistry

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/internal/command/serve"
)

// firsts are what the first group of re matches in a file, sorted.
func firsts(t *testing.T, file string, re *regexp.Regexp) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range re.FindAllSubmatch(text, -1) {
		all = append(all, string(m[1]))
	}
	slices.Sort(all)
	return all
}

func TestOptionsAreDocumented(t *testing.T) {
	t.Parallel()
	options := new(Handler).caddyfileOptions()
	maps.Copy(options, new(FilesystemStorage).caddyfileOptions())
	want := slices.Sorted(maps.Keys(options))
	for file, re := range map[string]*regexp.Regexp{
		"README.md":             regexp.MustCompile("(?m)^\\| `([a-z_]+)[^`]*` \\|"),
		"docs/configuration.md": regexp.MustCompile("(?m)^### `([a-z_]+)[^`]*`$"),
	} {
		if got := firsts(t, file, re); !slices.Equal(got, want) {
			t.Errorf("%s has the options %q, want %q", file, got, want)
		}
	}
}

func TestFlagsAreDocumented(t *testing.T) {
	t.Parallel()
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(serve.Command(serveModule).Flags().FlagUsages(), -1) {
		want = append(want, m[1])
	}
	slices.Sort(want)
	if got := firsts(t, "README.md", regexp.MustCompile("(?m)^\\| `--([a-z-]+)`")); !slices.Equal(got, want) {
		t.Errorf("README.md has the flags %q, want %q", got, want)
	}
}
