//go:build !noauth

package providers

import (
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/htpasswd"
	"github.com/caddy-oci/oci-registry/internal/option"
)

func init() { caddy.RegisterModule(Htpasswd{}) }

// Htpasswd knows users by a file of names and hashes of passwords, as
// Apache's htpasswd makes it: bcrypt, SHA-crypt or argon2id. The file is watched: what
// it says counts within 5 seconds, without a reload.
type Htpasswd struct {
	// File is the file. Placeholders like {env.NAME} are replaced. Required.
	File string `json:"file,omitempty"`

	users *users
}

// CaddyModule implements caddy.Module.
func (Htpasswd) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.oci_htpasswd", New: func() caddy.Module { return new(Htpasswd) }}
}

// UnmarshalCaddyfile parses
//
//	oci_htpasswd FILE
//	oci_htpasswd {
//		file FILE
//	}
func (p *Htpasswd) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if d.NextArg() {
		p.File = d.Val()
		return option.Block(d, nil)
	}
	return option.Block(d, option.Set{"file": option.Text(&p.File, "VALUE")})
}

// Provision reads the file. One that's broken is an error, though an earlier
// configuration may go on with what it had read before.
func (p *Htpasswd) Provision(ctx caddy.Context) error {
	if p.File == "" {
		return errors.New("oci_htpasswd has no file: write 'file PATH' in its block, or the path after its name")
	}
	path, err := option.Resolve("file", p.File)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := htpasswd.Check(path); err != nil {
		return err
	}
	p.users, err = acquireUsers("oci_htpasswd "+path, ctx.Slogger(), authn.VerifiedOptions{}, func(log *slog.Logger) (userSource, error) {
		return htpasswd.Open(path, htpasswd.Options{Log: log})
	})
	return err
}

// Cleanup implements caddy.CleanerUpper.
func (p *Htpasswd) Cleanup() error {
	u := p.users
	p.users = nil
	return u.release()
}

// Method implements Provider.
func (p *Htpasswd) Method() authn.Method { return p.users.method() }

// Authenticate implements caddyauth.Authenticator, for a site that is no registry.
func (p *Htpasswd) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return p.users.authenticate(w, r)
}

var (
	_ Provider              = (*Htpasswd)(nil)
	_ caddy.Provisioner     = (*Htpasswd)(nil)
	_ caddy.CleanerUpper    = (*Htpasswd)(nil)
	_ caddyfile.Unmarshaler = (*Htpasswd)(nil)
)
