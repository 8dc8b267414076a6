package ociregistry

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
)

// publicIssuers give accounts to everybody, or tokens to everybody who has one elsewhere,
// for whatever audience they ask for.
var publicIssuers = []string{
	"token.actions.githubusercontent.com",
	"github.com",
	"gitlab.com",
	"accounts.google.com",
	"agent.buildkite.com",
	"app.terraform.io",
	"oauth2.sigstore.dev/auth",
	"login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0", // the tenant of personal accounts
}

// isPublic reports whether whoever wants to can have an account of an issuer.
func isPublic(issuer string) bool {
	u, err := url.Parse(strings.ToLower(issuer))
	if err != nil {
		return false
	}
	return slices.Contains(publicIssuers, strings.TrimSuffix(u.Host, ":443")+strings.TrimRight(u.Path, "/"))
}

const validateFix = "write which tokens are meant into the issuer's block, such as 'validate `claims.repository_owner == \"example\"`'"

// checkOpen refuses what would let everybody in, and warns of what may.
func (r *Registry) checkOpen() error {
	for _, issuer := range r.auth.open {
		public := isPublic(issuer)
		switch {
		case public && r.Policy == nil:
			return fmt.Errorf("oci_workload: everybody gets a token of %s, and without a policy whoever has one may do everything: %s, or a policy that says who may do what", issuer, validateFix)
		case public && r.namesAuthenticated():
			r.log.Warn("oci_workload: everybody gets a token of "+issuer+", and the policy allows something to authenticated, which is whoever has one", slog.String("fix", validateFix))
		case !public && r.Policy == nil:
			r.log.Warn("oci_workload: without a policy whoever has a token of "+issuer+" for this registry may do everything", slog.String("fix", validateFix+", or a policy"))
		}
	}
	return nil
}

// namesAuthenticated reports whether a rule is for whoever has signed in.
func (r *Registry) namesAuthenticated() bool {
	const whoever = "authenticated"
	return slices.ContainsFunc(r.Policy.Rules, func(rule PolicyRule) bool { return slices.Contains(rule.To, whoever) }) ||
		slices.ContainsFunc(r.Policy.Admins, func(admin PolicyAdmin) bool { return slices.Contains(admin.To, whoever) })
}
