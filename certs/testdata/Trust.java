import java.security.KeyStore;
import java.security.cert.X509Certificate;
import javax.net.ssl.*;

/** Trust prints the proxy properties and the trust anchors that a JVM has by its options alone. */
class Trust {
    public static void main(String[] args) throws Exception {
        for (String name : new String[] {"http.proxyHost", "http.proxyPort", "https.proxyHost", "https.proxyPort",
                "http.nonProxyHosts", "aether.connector.http.useSystemProperties", "own.property"})
            System.out.println(name + "=" + System.getProperty(name));
        for (String uri : args)
            System.out.println(uri + " via " + java.net.ProxySelector.getDefault().select(java.net.URI.create(uri)).get(0).type());
        TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
        factory.init((KeyStore) null);
        for (X509Certificate root : ((X509TrustManager) factory.getTrustManagers()[0]).getAcceptedIssuers())
            System.out.println("anchor " + root.getSerialNumber() + " " + root.getSubjectX500Principal().getName());
    }
}
