package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"os"
)

// The messages are those of quic_tlshd/tools/quic_messages.py: a length of four bytes, then type, level, argument and
// body. We send what a QUIC stack with its own TLS has to say: handshake bytes, and the secrets that it came to.
const (
	cryptoMessage   = 2
	sendSecret      = 3
	receiveSecret   = 4
	peerParameters  = 5
	alertMessage    = 7
	endMessage      = 254 // to us: this connection is over
	completeMessage = 255
)

// initial_source_connection_id, and initial_max_data, without which there can be no early data.
var transportParameters = []byte{0x0f, 0x00, 0x04, 0x04, 0x80, 0x00, 0xff, 0xff}

// Levels as the messages have them.
var numbers = map[tls.QUICEncryptionLevel]byte{
	tls.QUICEncryptionLevelApplication: 0,
	tls.QUICEncryptionLevelInitial:     1,
	tls.QUICEncryptionLevelHandshake:   2,
	tls.QUICEncryptionLevelEarly:       3,
}
var levels = map[byte]tls.QUICEncryptionLevel{}

func init() {
	for level, number := range numbers {
		levels[number] = level
	}
}

// exchangeMessages does one handshake, and takes tickets until we are told that it is over.
func exchangeMessages(config *tls.Config, server, early bool) {
	conn := tls.QUICClient(&tls.QUICConfig{TLSConfig: config})
	if server {
		conn = tls.QUICServer(&tls.QUICConfig{TLSConfig: config})
	}
	defer conn.Close()
	conn.SetTransportParameters(transportParameters)
	err := conn.Start(context.Background())
	for err == nil {
		if err = applyEvents(conn, server, early); err != nil {
			break
		}
		kind, level, data := readMessage()
		if kind == endMessage {
			return
		}
		if kind != cryptoMessage {
			log.Fatalf("message type %d", kind)
		}
		err = conn.HandleData(levels[level], data)
	}
	if alert, is := err.(tls.AlertError); is {
		writeMessage(alertMessage, 0, uint16(alert), []byte(err.Error()))
	}
	log.Fatal(err)
}

func applyEvents(conn *tls.QUICConn, server, early bool) error {
	for {
		event := conn.NextEvent()
		switch event.Kind {
		case tls.QUICNoEvent:
			return nil
		case tls.QUICWriteData:
			writeMessage(cryptoMessage, numbers[event.Level], 0, event.Data)
		case tls.QUICSetWriteSecret:
			writeMessage(sendSecret, numbers[event.Level], event.Suite, event.Data)
		case tls.QUICSetReadSecret:
			writeMessage(receiveSecret, numbers[event.Level], event.Suite, event.Data)
		case tls.QUICTransportParameters:
			writeMessage(peerParameters, 0, 0, event.Data)
		case tls.QUICHandshakeDone:
			writeMessage(completeMessage, 0, 0, nil)
			if server {
				if err := conn.SendSessionTicket(tls.QUICSessionTicketOptions{EarlyData: early}); err != nil {
					return err
				}
			}
		}
	}
}

func writeMessage(kind, level byte, argument uint16, body []byte) {
	packet := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
	packet = binary.BigEndian.AppendUint16(append(packet, kind, level), argument)
	must(os.Stdout.Write(append(packet, body...)))
}

func readMessage() (kind, level byte, body []byte) {
	var head [8]byte
	must(io.ReadFull(os.Stdin, head[:]))
	body = make([]byte, binary.BigEndian.Uint32(head[:4])-4)
	must(io.ReadFull(os.Stdin, body))
	return head[4], head[5], body
}
