// A TLS 1.3 peer for tests/interop: Go's crypto/tls as client and as server, over TCP or, with -quic, over QUIC's
// handshake messages on standard input and output.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
)

var groups = map[string]tls.CurveID{
	"SECP256R1":          tls.CurveP256,
	"SECP384R1":          tls.CurveP384,
	"SECP521R1":          tls.CurveP521,
	"X25519":             tls.X25519,
	"X25519MLKEM768":     tls.X25519MLKEM768,
	"SECP256R1MLKEM768":  tls.SecP256r1MLKEM768,
	"SECP384R1MLKEM1024": tls.SecP384r1MLKEM1024,
}

func main() {
	log.SetFlags(0)
	server := flag.Bool("server", false, "be the server")
	quic := flag.Bool("quic", false, "exchange QUIC's messages on standard input and output")
	address := flag.String("address", "", "where to connect to or to listen, without -quic")
	visits := flag.Int("visits", 1, "connections to make")
	certificate := flag.String("cert", "", "chain to show (PEM)")
	key := flag.String("key", "", "its private key (PEM)")
	root := flag.String("root", "", "what verifies the peer (PEM); a server with it requires a certificate")
	name := flag.String("name", "", "the server's name")
	named := flag.String("groups", "", "separated by commas")
	early := flag.Bool("early", false, "take early data (QUIC only)")
	flag.Parse()

	config := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         *name,
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
	if *quic {
		config.NextProtos = []string{"h3"}
	}
	if *named != "" {
		for _, group := range strings.Split(*named, ",") {
			config.CurvePreferences = append(config.CurvePreferences, groups[group])
		}
	}
	if *certificate != "" {
		config.Certificates = []tls.Certificate{must(tls.LoadX509KeyPair(*certificate, *key))}
	}
	if *root != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(must(os.ReadFile(*root)))
		config.RootCAs, config.ClientCAs = pool, pool
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	switch {
	case *quic:
		for range *visits {
			exchangeMessages(config, *server, *early)
		}
	case *server:
		listen(config, *address)
	default:
		for range *visits {
			visit(config, *address)
		}
	}
}

// visit sends a request and prints the answer.
func visit(config *tls.Config, address string) {
	conn := must(tls.Dial("tcp", address, config))
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	os.Stdout.Write(must(io.ReadAll(conn)))
}

// listen answers every request.
func listen(config *tls.Config, address string) {
	listener := must(tls.Listen("tcp", address, config))
	for {
		go serve(must(listener.Accept()))
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	reader, request := bufio.NewReader(conn), []byte{}
	for !bytes.HasSuffix(request, []byte("\r\n\r\n")) {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			log.Print(err)
			return
		}
		request = append(request, line...)
	}
	fmt.Fprint(conn, "HTTP/1.0 200 OK\r\n\r\nthis is Go\n")
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
