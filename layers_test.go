package ociregistry_test

import (
	"encoding/json"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/caddy-oci/oci-registry"

// layers is the architecture: each package of ours, and which of the others it
// may import. "." is the root, "caddy" stands for Caddy and what it hands out (see
// caddys), "*" for everything. A row that ends in /... holds for all packages below it.
//
// A package without a row fails, and so does a row without a package.
var layers = map[string]string{
	"oci":                    "",
	"internal/vfs":           "",
	"internal/durable":       "internal/vfs",
	"internal/journal":       "internal/vfs",
	"internal/versioned":     "",
	"internal/btree":         "",
	"internal/origin":        "",
	"storage":                "oci",
	"storage/layout":         "oci storage internal/btree",
	"storage/memory":         "oci storage storage/layout internal/vfs internal/durable internal/versioned",
	"storage/filesystem":     "oci storage storage/layout internal/btree internal/vfs internal/durable internal/journal internal/versioned",
	"storage/s3":             "oci storage storage/layout internal/btree internal/vfs internal/durable internal/versioned",
	"storage/readonly":       "oci storage",
	"storage/observed":       "oci storage",
	"storage/routed":         "oci storage",
	"storage/transfer":       "oci storage",
	"storage/archive":        "oci storage storage/layout storage/transfer",
	"storage/storagetest":    "oci storage internal/vfs",
	"authz":                  "oci authz/glob",
	"authz/glob":             "oci",
	"authz/authn":            "oci authz",
	"authz/cel":              "oci authz",
	"authz/authn/apikey":     "oci authz authz/authn authz/keep",
	"authz/keep":             "internal/versioned",
	"authz/keep/beside":      "authz/keep storage",
	"authz/keep/keeptest":    "authz/keep",
	"authz/token":            "oci authz authz/authn authz/keep",
	"handler":                "oci storage authz",
	"tasks/gc":               "oci storage",
	"tasks/scrub":            "oci storage",
	"tasks":                  "",
	"internal/command":       "oci storage storage/filesystem storage/transfer storage/archive authz tasks tasks/gc tasks/scrub internal/origin internal/adminapi",
	"internal/command/serve": "caddy storage/filesystem authz internal/origin",
	"internal/state":         "caddy oci storage",
	"internal/option":        "caddy tasks",
	"internal/clientaddr":    "caddy",
	"internal/providers":     "caddy oci authz authz/authn authz/authn/htpasswd authz/authn/issuer authz/authn/ldap authz/authn/mtls authz/authn/workload authz/token internal/clientaddr internal/option",
	"internal/adminapi":      "tasks",
	".":                      "caddy *",
	"xcaddy":                 "caddy .",
	"examples/embed":         "oci storage storage/memory storage/filesystem authz handler",
	"test/...":               "caddy *",

	"authz/glob/globtest":   "",
	"authz/authn/authntest": "authz authz/authn",
	"authz/authn/htpasswd":  "authz authz/authn",
	"authz/authn/ldap":      "authz authz/authn",
	"authz/authn/mtls":      "authz authz/authn",

	"authz/authn/internal/lately":   "",
	"authz/authn/issuer":            "authz/authn authz/authn/internal/lately",
	"authz/authn/issuer/issuertest": "",
	"authz/authn/workload":          "authz authz/authn authz/authn/issuer",
	"authz/authn/oidc":              "oci authz authz/authn authz/authn/issuer authz/authn/internal/lately authz/keep",
}

// testOnly is what nothing but a test may import.
var testOnly = []string{"storage/storagetest", "authz/authn/authntest", "authz/authn/issuer/issuertest", "authz/keep/keeptest", "authz/glob/globtest", "test/..."}

// testsMay is what the tests of any package may import as well, beside their own package.
const testsMay = "storage storage/layout storage/memory storage/filesystem storage/storagetest " +
	"authz/authn/authntest authz/authn/issuer/issuertest authz/keep authz/keep/beside authz/keep/keeptest authz/glob/globtest"

// never is what a package keeps away from in the standard library.
var never = map[string][]string{
	"authz":      {"net/http"}, // who asks over what is for the handler to know
	"authz/cel":  {"net/http"},
	"authz/glob": {"net/http"},
	"storage":    {"os"}, // a store need not be files
}

// caddys is where Caddy comes from, its loggers, metrics and traces.
var caddys = []string{"github.com/caddyserver/", "go.uber.org/zap/", "github.com/prometheus/", "go.opentelemetry.io/"}

// statusOnly are the packages to which HTTP is a list of numbers.
var statusOnly = []string{"oci", "storage"}

func TestLayers(t *testing.T) {
	t.Parallel()
	unused := maps.Clone(layers)
	for _, src := range sources(t) {
		row, ok := rowOf(src.pkg)
		if !ok {
			t.Errorf("%s has no row in the table of layers_test.go", src.pkg)
			continue
		}
		delete(unused, row)
		for _, spec := range src.file.Imports {
			if imp, _ := strconv.Unquote(spec.Path.Value); !src.mayImport(layers[row], imp) {
				t.Errorf("%s must not import %s (%s)", src.pkg, strings.TrimPrefix(imp, modulePath+"/"), src.path)
			}
		}
		if slices.Contains(statusOnly, src.pkg) && !src.test {
			for _, name := range src.uses("http") {
				if !strings.HasPrefix(name, "Status") {
					t.Errorf("%s must not use http.%s, only status numbers (%s)", src.pkg, name, src.path)
				}
			}
		}
	}
	for row := range unused {
		t.Errorf("the table of layers_test.go has a row for %s, which is not there", row)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	const maxFunc, maxFile = 60, 600
	for _, src := range sources(t) {
		if ast.IsGenerated(src.file) {
			continue
		}
		if n := src.fset.File(src.file.FileStart).LineCount(); n > maxFile {
			t.Errorf("%s has %d lines, more than %d", src.path, n, maxFile)
		}
		if src.test {
			continue
		}
		for _, decl := range src.file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				from, to := src.fset.Position(f.Pos()).Line, src.fset.Position(f.End()).Line
				if n := to - from + 1; n > maxFunc {
					t.Errorf("%s:%d: %s has %d lines, more than %d", src.path, from, f.Name.Name, n, maxFunc)
				}
			}
		}
	}
}

// guestTags are the build tags that leave modules out, by the file that has the module.
var guestTags = map[string]string{
	"guests_oidc.go":                 "nooidc",
	"oidccaddyfile.go":               "nooidc",
	"guests_s3.go":                   "nos3",
	"internal/providers/htpasswd.go": "noauth",
	"internal/providers/ldap.go":     "noldap",
	"internal/providers/mtls.go":     "noauth",
	"internal/providers/workload.go": "noworkload",
}

// TestGuestTags holds the files to their tags. CI builds without all of them.
func TestGuestTags(t *testing.T) {
	t.Parallel()
	missing := maps.Clone(guestTags)
	for _, src := range sources(t) {
		tag, listed := guestTags[src.path]
		delete(missing, src.path)
		switch left := src.constraint(); {
		case listed && left != "!"+tag:
			t.Errorf("%s: the build constraint is %q, want %q", src.path, left, "!"+tag)
		case !listed && !src.test && strings.HasPrefix(left, "!no"):
			t.Errorf("%s is left out by %s, and isn't in the table", src.path, left)
		case strings.HasPrefix(src.path, "guests_") && !src.test && !listed:
			t.Errorf("%s is called a guest's, and isn't in the table", src.path)
		}
	}
	for path := range missing {
		t.Errorf("the table has %s, which isn't there", path)
	}
}

// TestDependenciesAreExplained holds docs/dependencies.md to go.mod.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllSubmatch(doc, -1) {
		explained[string(m[1])] = true
	}
	for _, r := range mod.Require {
		if !r.Indirect && !explained[r.Path] {
			t.Errorf("go.mod requires %s, and docs/dependencies.md does not say why", r.Path)
		}
		if !r.Indirect {
			delete(explained, r.Path)
		}
	}
	for p := range explained {
		t.Errorf("docs/dependencies.md explains %s, which go.mod does not require directly", p)
	}
}

// A source is one Go file of the module, whatever its build constraints say.
type source struct {
	pkg  string // its folder, "." for the root
	path string
	test bool
	fset *token.FileSet
	file *ast.File
}

// sources reads the files itself, since go list shows only those of one
// operating system and one set of build tags. Nested modules are left out.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipFolder(p)
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		all = append(all, source{path.Dir(p), p, strings.HasSuffix(p, "_test.go"), fset, file})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// skipFolder returns fs.SkipDir for what ./... leaves out as well.
func skipFolder(p string) error {
	name := filepath.Base(p)
	_, err := os.Stat(filepath.Join(p, "go.mod"))
	if p != "." && (err == nil || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
		return fs.SkipDir
	}
	return nil
}

// rowOf returns the key of the row that holds for a package: its own, or the nearest one above it.
func rowOf(pkg string) (string, bool) {
	if _, ok := layers[pkg]; ok {
		return pkg, true
	}
	for dir := pkg; dir != "."; dir = path.Dir(dir) {
		if _, ok := layers[dir+"/..."]; ok {
			return dir + "/...", true
		}
	}
	return "", false
}

func (s source) mayImport(row, imp string) bool {
	allowed := strings.Fields(row)
	for _, p := range caddys {
		if strings.HasPrefix(imp+"/", p) {
			return slices.Contains(allowed, "caddy")
		}
	}
	dep, ours := strings.CutPrefix(imp, modulePath+"/")
	if imp == modulePath {
		dep, ours = ".", true
	}
	if !ours {
		return s.test || !slices.Contains(never[s.pkg], imp)
	}
	if s.test {
		allowed = append(append(allowed, s.pkg), strings.Fields(testsMay)...)
	} else if key, _ := rowOf(dep); slices.Contains(testOnly, key) && !strings.HasPrefix(s.pkg, "test/") {
		return false
	}
	return slices.Contains(allowed, dep) || slices.Contains(allowed, "*")
}

// uses returns the names that a file takes from the package called pkg.
func (s source) uses(pkg string) []string {
	var names []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg {
				names = append(names, sel.Sel.Name)
			}
		}
		return true
	})
	return names
}

// constraint returns the expression of the file's //go:build line, or "".
func (s source) constraint() string {
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if expr, err := constraint.Parse(c.Text); err == nil {
				return expr.String()
			}
		}
	}
	return ""
}
