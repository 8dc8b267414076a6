package ociregistry_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-oci/oci-registry"
)

// shown is a configuration that the documentation shows.
type shown struct {
	where  string // file and line
	source []byte
	json   bool // else a Caddyfile
}

// TestShownConfigurations loads every configuration that a reader may copy, as
// 'caddy validate' does: all of them are right, formatted, and leave the disk alone.
//
// It isn't parallel, since validating sets the process's log.
func TestShownConfigurations(t *testing.T) {
	t.Setenv("ALICE_HASH", "$2a$14$noPasswordHasThis")
	t.Setenv("S3_KEY", "key")
	t.Setenv("LDAP_PASSWORD", "secret")
	t.Setenv("OIDC_SECRET", "secret")
	t.Setenv("S3_SECRET", "secret")
	all := shownConfigurations(t)
	for _, from := range []string{"README.md", "docs", "examples"} {
		found := false
		for _, s := range all {
			found = found || strings.HasPrefix(s.where, from)
		}
		if !found {
			t.Errorf("no configuration found in %s", from)
		}
	}
	for _, s := range all {
		t.Run(s.where, func(t *testing.T) {
			config := s.source
			if !s.json {
				config = adaptShown(t, s.source)
			}
			root := filepath.Join(t.TempDir(), "root")
			if err := validate(elsewhere(t, config, root, t.TempDir())); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("validating touched the storage: %v", err)
			}
		})
	}
}

// shownConfigurations finds the blocks marked caddyfile in Markdown, and in
// examples the files called Caddyfile or *.json.
func shownConfigurations(t *testing.T) []shown {
	t.Helper()
	var all []shown
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipFolder(p)
		}
		where := filepath.ToSlash(p)
		isMarkdown, isJSON := filepath.Ext(p) == ".md", filepath.Ext(p) == ".json"
		inExamples := strings.HasPrefix(where, "examples/")
		if !isMarkdown && (!inExamples || !isJSON && d.Name() != "Caddyfile") {
			return nil
		}
		raw, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if isMarkdown {
			all = append(all, caddyfileBlocks(where, raw)...)
		} else {
			all = append(all, shown{where, raw, isJSON})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var blockRE = regexp.MustCompile("(?ms)^( *)```caddyfile\n(.*?)^ *```$")

// caddyfileBlocks returns the blocks of a Markdown file. One in a list is
// indented as a whole.
func caddyfileBlocks(file string, markdown []byte) []shown {
	var blocks []shown
	for _, at := range blockRE.FindAllSubmatchIndex(markdown, -1) {
		indent, source := markdown[at[2]:at[3]], markdown[at[4]:at[5]]
		if len(indent) > 0 {
			source = bytes.TrimPrefix(source, indent)
			source = bytes.ReplaceAll(source, append([]byte("\n"), indent...), []byte("\n"))
		}
		line := 1 + bytes.Count(markdown[:at[0]], []byte("\n"))
		blocks = append(blocks, shown{where: fmt.Sprintf("%s:%d", file, line), source: source})
	}
	return blocks
}

// adaptShown turns a Caddyfile into JSON, as 'caddy adapt' does.
func adaptShown(t *testing.T, source []byte) []byte {
	t.Helper()
	if want := caddyfile.Format(source); !bytes.Equal(source, want) {
		t.Errorf("'caddy fmt' makes it\n%s", want)
	}
	out, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(source, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	return out
}

// elsewhere returns config with the folders of registries below root, those of
// Caddy, its log files and the files that it reads below data, and nothing of it shown in the test's output.
func elsewhere(t *testing.T, config []byte, root, data string) []byte {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	move(c, root, data)
	somebody := httptest.NewTLSServer(http.NotFoundHandler())
	defer somebody.Close()
	for name, content := range map[string]string{
		"htpasswd": "alice:$2y$05$" + strings.Repeat("a", 53) + "\n",
		"pem":      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: somebody.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c["storage"] = map[string]any{"module": "file_system", "root": data}
	if c["logging"] == nil {
		c["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "FATAL"}}}
	}
	out, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func move(v any, root, data string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			move(e, root, data)
		}
	case map[string]any:
		folder, _ := v["root"].(string)
		if v["module"] == "filesystem" {
			v["root"] = filepath.Join(root, folder)
		}
		if v["provider"] == "oci_htpasswd" {
			v["file"] = filepath.Join(data, "htpasswd")
		}
		if v["ca"] != nil && v["audiences"] != nil {
			v["ca"] = filepath.Join(data, "pem")
		}
		if v["pem_files"] != nil {
			v["pem_files"] = []any{filepath.Join(data, "pem")}
		}
		if name, ok := v["filename"].(string); ok && v["output"] == "file" {
			v["filename"] = filepath.Join(data, name)
		}
		for _, e := range v {
			move(e, root, data)
		}
	}
}

// validate does what 'caddy validate' does with JSON.
func validate(config []byte) error {
	var c *caddy.Config
	if err := caddy.StrictUnmarshalJSON(caddy.RemoveMetaFields(config), &c); err != nil {
		return err
	}
	return caddy.Validate(c)
}

// What TestShownConfigurations finds wrong is found wrong.
func TestShownConfigurationsMustBeRight(t *testing.T) {
	blocks := caddyfileBlocks("x.md", []byte("text\n\n```caddyfile\na\n```\n\n1. step\n\n   ```caddyfile\n   b {\n   \tc\n   }\n   ```\n```sh\nd\n```\n"))
	if len(blocks) != 2 || string(blocks[0].source) != "a\n" || string(blocks[1].source) != "b {\n\tc\n}\n" || blocks[1].where != "x.md:9" {
		t.Errorf("got %+v", blocks)
	}
	config := adaptShown(t, []byte("http://a {\n\toci_registry {\n\t\troot /same\n\t}\n}\n\nhttp://b {\n\toci_registry {\n\t\troot /same\n\t}\n}\n"))
	root := filepath.Join(t.TempDir(), "root")
	if err := validate(elsewhere(t, config, root, t.TempDir())); err == nil || !strings.Contains(err.Error(), filepath.Join(root, "same")) {
		t.Errorf("two registries in one folder: %v", err)
	}
}

var (
	linkRE    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingRE = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenceRE   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
)

// TestLinks follows the links of Markdown files to files and headings of this repository.
func TestLinks(t *testing.T) {
	t.Parallel()
	files := markdown(t)
	for file, text := range files {
		for _, m := range linkRE.FindAllStringSubmatch(text, -1) {
			target, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // another site's
			}
			to := file
			if target != "" {
				to = filepath.Join(filepath.Dir(file), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link to %s: %v", file, m[1], err)
			}
			if heading != "" && !hasHeading(files[to], heading) {
				t.Errorf("%s: link to %s: no such heading", file, m[1])
			}
		}
	}
}

// markdown returns the Markdown files without what is in their code blocks, by path.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipFolder(p)
		}
		if filepath.Ext(p) != ".md" {
			return nil
		}
		raw, err := os.ReadFile(p)
		files[p] = string(fenceRE.ReplaceAll(raw, nil))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Markdown found")
	}
	return files
}

// hasHeading reports whether text has a heading that is linked to as anchor: in
// lower case, with dashes for spaces and without punctuation.
func hasHeading(text, anchor string) bool {
	for _, m := range headingRE.FindAllStringSubmatch(text, -1) {
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		if slug == anchor {
			return true
		}
	}
	return false
}
