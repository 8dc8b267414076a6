package apikey

// Forge returns the key called as one is, with the secret of another one.
func Forge(id, secret string) string {
	body := id[:len(Prefix)+idLength] + secret[len(Prefix)+idLength:len(secret)-sumSize*8/5]
	return body + checksum(body)
}
