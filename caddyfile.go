package ociregistry

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/option"
	"github.com/caddy-oci/oci-registry/storage"
)

func init() {
	httpcaddyfile.RegisterDirective("oci_registry", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("oci_registry", httpcaddyfile.Before, "respond")
	httpcaddyfile.RegisterGlobalOption("oci_registry", parseGlobalOption)
}

// caddyfileOptions are the options of a registry.
func (r *Registry) caddyfileOptions() option.Set {
	return option.Set{
		"storage":           option.Module(&r.StorageRaw, "oci_registry.storage", "module"),
		"path":              r.unmarshalPath,
		"state":             option.Choice(&r.State, StateCaddy, StateStore),
		"read_only":         option.Flag(&r.ReadOnly),
		"auth":              authentication(&r.Auth),
		"group":             group(&r.Groups),
		"policy":            policy(&r.Policy),
		"rate_limit":        rateLimit(&r.RateLimit),
		"anonymous":         option.Choice(&r.Anonymous, authz.AnonymousNone, authz.AnonymousPull, authz.AnonymousAll),
		"sparse_manifests":  option.Choice(&r.SparseManifests, storage.SparseNone, storage.SparseIndexes, storage.SparseAll),
		"max_manifest_size": option.Size(&r.MaxManifestSize),
		"max_blob_size":     option.Size(&r.MaxBlobSize),
		"external_url":      option.Checked(&r.ExternalURL, checkExternalURL),
		"health":            option.Checked(&r.Health, checkHealth),
		"gc":                collection(&r.GC),
		"scrub":             scrubbing(&r.Scrub),
	}
}

// unmarshalBlock parses the block of a registry:
//
//	{
//		root PATH
//		sync on|off
//		storage MODULE { … }
//		path PREFIX { … }
//		state caddy|store
//		read_only
//		anonymous none|pull|all
//		auth { … }
//		group NAME MEMBER…
//		policy { … }
//		rate_limit { … }
//		sparse_manifests none|indexes|all
//		max_manifest_size SIZE
//		max_blob_size SIZE
//		external_url URL
//		health PATH
//		gc off
//		gc { … }
//		scrub off
//		scrub { … }
//	}
//
// root and sync are short for those of storage filesystem.
func (r *Registry) unmarshalBlock(d *caddyfile.Dispenser) error {
	return parseStorage(d, &r.StorageRaw, r.caddyfileOptions())
}

// parseStorage parses a block with options, among them storage, which sets to,
// and what is short for that of a folder.
func parseStorage(d *caddyfile.Dispenser, to *json.RawMessage, opts option.Set) error {
	var folder FilesystemStorage
	maps.Copy(opts, folder.caddyfileOptions())
	if err := option.Block(d, opts, "path", "group"); err != nil {
		return err
	}
	if folder.Root == "" && folder.Sync == nil {
		return nil
	}
	if *to != nil {
		return d.Errf("root and sync, which stand for storage filesystem, contradict the option storage: keep one of both, or write them in the block of 'storage filesystem'")
	}
	*to = caddyconfig.JSONModuleObject(folder, "module", "filesystem", nil)
	return nil
}

// unmarshalPath parses
//
//	path PREFIX {
//		root PATH
//		sync on|off
//		storage MODULE { … }
//	}
func (r *Registry) unmarshalPath(d *caddyfile.Dispenser) error {
	prefix, err := option.Argument(d, "PREFIX { … }")
	if err != nil {
		return err
	}
	if err := checkPath(prefix); err != nil {
		return d.WrapErr(err)
	}
	if r.Paths[prefix] != nil {
		return d.Errf("path %s is given twice: keep one", prefix)
	}
	p := new(Path)
	if err := parseStorage(d, &p.StorageRaw, option.Set{"storage": option.Module(&p.StorageRaw, "oci_registry.storage", "module")}); err != nil {
		return err
	}
	if p.StorageRaw == nil {
		return d.Errf("path %s: where is it? Write 'root PATH' or 'storage MODULE { … }' in its block", prefix)
	}
	if r.Paths == nil {
		r.Paths = make(map[string]*Path)
	}
	r.Paths[prefix] = p
	return nil
}

// caddyfileOptions are the options of a registry that a site describes.
func (h *Handler) caddyfileOptions() option.Set {
	opts := h.Registry.caddyfileOptions()
	opts["name"] = option.Checked(&h.Name, checkName)
	return opts
}

// UnmarshalCaddyfile parses
//
//	oci_registry [<matcher>] [NAME]
//	oci_registry [<matcher>] {
//		name NAME
//		…  # a registry of this site alone; see unmarshalBlock
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if !d.NextArg() {
		return parseStorage(d, &h.StorageRaw, h.caddyfileOptions())
	}
	h.Use = d.Val()
	if !registryNameRE.MatchString(h.Use) {
		return d.Errf("%q can't be the name of a registry; for a folder, write 'root %[1]s' in the block", h.Use)
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("registry %s is declared elsewhere and has a block here too: move the options to the global option 'oci_registry { registry %[1]s { … } }', or leave out the name", h.Use)
	}
	return option.Block(d, nil)
}

// parseDirective is httpcaddyfile.RegisterHandlerDirective, and looks at the
// matcher: "oci_registry /srv/registry" isn't a registry in that folder but one
// that no client would find.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	if h.NextArg() && strings.HasPrefix(h.Val(), "/") && !isAPI(h.Val()) && h.Val() != "/v2*" {
		return nil, h.Errf("%q is taken as a path, and clients look for a registry at /v2/: for a folder, write 'root %[1]s' in the block", h.Val())
	}
	h.Reset()
	h.Next()
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	hd := new(Handler)
	if err := hd.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	if hd.Use == "" && hd.Name == "" {
		hd.Name = nextInlineName(h)
	}
	return h.NewRoute(matchers, hd), nil
}

// nextInlineName names the registries that sites describe without a name in the order in
// which they stand in the file: inline, which is the default, inline-2, inline-3.
func nextInlineName(h httpcaddyfile.Helper) string {
	const key = "oci_registry.inline"
	n, _ := h.State[key].(int)
	h.State[key] = n + 1
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("inline-%d", n+1)
}

// parseGlobalOption parses
//
//	oci_registry {
//		registry NAME {
//			…  # see Registry.unmarshalBlock
//		}
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // the option's name
	if existing != nil {
		return nil, d.Errf("the global option oci_registry is given twice: put all registries into one block")
	}
	app := App{Registries: make(map[string]*Registry)}
	if d.NextArg() {
		return nil, d.Errf("unexpected argument %q: write 'oci_registry { registry %[1]s { … } }'", d.Val())
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := app.unmarshalRegistry(d); err != nil {
			return nil, err
		}
	}
	return httpcaddyfile.App{Name: "oci_registry", Value: caddyconfig.JSON(app, nil)}, nil
}

// unmarshalRegistry parses "registry NAME { … }".
func (a *App) unmarshalRegistry(d *caddyfile.Dispenser) error {
	if d.Val() != "registry" {
		return d.Errf("unknown option %q: want registry NAME { … }", d.Val())
	}
	name, err := option.Argument(d, "NAME { … }")
	if err != nil {
		return err
	}
	if a.Registries[name] != nil {
		return d.Errf("registry %s is declared twice: keep one, or rename one", name)
	}
	a.Registries[name] = new(Registry)
	return a.Registries[name].unmarshalBlock(d)
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
