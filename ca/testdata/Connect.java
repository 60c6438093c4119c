import java.io.FileInputStream;
import java.security.KeyStore;
import javax.net.ssl.*;

/** Connect STORE PORT NAME... prints for each name whether the handshake succeeds. */
class Connect {
    public static void main(String[] args) throws Exception {
        KeyStore roots = KeyStore.getInstance("PKCS12");
        roots.load(new FileInputStream(args[0]), "changeit".toCharArray());
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(roots);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        for (int i = 2; i < args.length; i++) {
            // The layered form sends the name and checks it without looking it up.
            try (java.net.Socket plain = new java.net.Socket("127.0.0.1", Integer.parseInt(args[1]));
                 SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(plain, args[i], 443, true)) {
                SSLParameters parameters = socket.getSSLParameters();
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
                socket.setSSLParameters(parameters);
                socket.startHandshake();
                System.out.println(args[i] + " trusted");
            } catch (SSLException e) {
                System.out.println(args[i] + " refused: " + e);
            }
        }
    }
}
