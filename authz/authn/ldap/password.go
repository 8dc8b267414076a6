package ldap

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/caddy-oci/oci-registry/authz/authn"
)

// whenChanged are the attributes that say when a user's password was set: of the password
// policy of OpenLDAP and 389 (draft-behera-ldap-password-policy, section 5.3.2), of
// Active Directory, of FreeIPA, and of Samba. That of shadow accounts counts days, of
// which there may be two passwords on one.
var whenChanged = []string{"pwdChangedTime", "pwdLastSet", "krbLastPwdChange", "sambaPwdLastSet"}

// Generation returns what changes when the user's password does, and is the same whoever
// asks: refresh tokens end with it. It's empty if the directory doesn't say, or doesn't
// say it to who searches. Of who isn't there it's authn.ErrRefused.
func (s *Source) Generation(ctx context.Context, name string) (string, error) {
	if !isName(name) {
		return "", authn.ErrRefused
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	found, err := s.find(ctx, name, whenChanged...)
	if err != nil {
		return "", err
	}
	return generationOf(found.Entry), nil
}

func generationOf(e *ldap.Entry) string {
	var text strings.Builder
	for _, name := range whenChanged {
		for _, value := range e.GetEqualFoldAttributeValues(name) {
			text.WriteString(name + "=" + value + "\n")
		}
	}
	if text.Len() == 0 {
		return ""
	}
	sum := sha256.Sum256([]byte("generation\x00" + e.DN + "\x00" + text.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
