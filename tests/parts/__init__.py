"""What tests against the whole service share: an image, a checking client, a relay, a service of one's own."""
